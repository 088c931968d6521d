// What a backend in a file of its own says about itself. src/modules reads it before anything of the backend runs.

#include "owlet-built-for.h"

#ifdef OWLET_VULKAN
#include "vulkan_loader.h"
#endif

#define STATES extern "C" __attribute__((visibility("default")))

// The ggml whose structs and functions it expects of the program.
STATES const char owlet_built_for[];
const char owlet_built_for[] = "owlet backend for " OWLET_BUILT_FOR;

// What this machine lacks for it, and without which it must not be started; NULL where that is nothing.
STATES const char * owlet_lacking(void);
const char * owlet_lacking(void) {
#ifdef OWLET_VULKAN
    if (!owlet_has_vulkan()) {
        return "Vulkan's loader, libvulkan.so.1";
    }
#endif
    return nullptr;
}
