// Where exceptions of ggml's C++ end, and what ggml calls fatal becomes one.
#pragma once

// While one lives that is open, what ggml cannot go on with is an exception in this thread; without one, or where the last
// one is closed, it ends the process.
class WayOut {
  public:
    explicit WayOut(bool is_open) noexcept;
    ~WayOut();
    WayOut(const WayOut &) = delete;
    WayOut & operator=(const WayOut &) = delete;

  private:
    const bool before;
};

// Keeps what the exception that is handled now says, for owlet_problem().
void note_problem() noexcept;

// Whether `work` came to its end.
template <class Work> bool guarded(Work && work) noexcept {
    const WayOut way_out(true);
    try {
        work();
        return true;
    } catch (...) {
        note_problem();
        return false;
    }
}
