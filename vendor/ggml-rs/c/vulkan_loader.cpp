// Vulkan's loader, asked for when the program runs: one that was linked with it would not start where it is missing.
// ggml-vulkan takes all functions from vkGetInstanceProcAddr, which stands here for the loader's own.

#include "vulkan_loader.h"

#include <vulkan/vulkan_core.h>

#ifdef __linux__

#include <dlfcn.h>

static PFN_vkGetInstanceProcAddr loader() {
    static const auto function = [] {
        void * library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
        void * found   = library ? dlsym(library, "vkGetInstanceProcAddr") : nullptr;
        return reinterpret_cast<PFN_vkGetInstanceProcAddr>(found);
    }();
    return function;
}

extern "C" PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char * name) {
    return loader() ? loader()(instance, name) : nullptr;
}

// The first Vulkan had no version to ask for, and ggml asks without looking.
bool owlet_has_vulkan(void) {
    return vkGetInstanceProcAddr(nullptr, "vkEnumerateInstanceVersion") != nullptr;
}

#else

bool owlet_has_vulkan(void) {
    return true;
}

#endif
