// Where exceptions of ggml's C++ end.
#pragma once

// Keeps what the exception that is handled now says, for owlet_problem().
void note_problem() noexcept;

// Whether `work` came to its end.
template <class Work> bool guarded(Work && work) noexcept {
    try {
        work();
        return true;
    } catch (...) {
        note_problem();
        return false;
    }
}
