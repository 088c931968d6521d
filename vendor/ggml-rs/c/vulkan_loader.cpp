// Vulkan's loader, asked for when the program runs: one that was linked with it would not start where it is missing. What
// ggml-vulkan calls by name stands here for the loader's own; it takes all else from vkGetInstanceProcAddr.

#include "vulkan_loader.h"

#ifdef __linux__

#include <vulkan/vulkan_core.h>

#include <dlfcn.h>

// A function of the loader; NULL where there is none.
template <class Function> static Function function(const char * name) {
    static void * const library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<Function>(library ? dlsym(library, name) : nullptr);
}

PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char * name) {
    static const auto found = function<PFN_vkGetInstanceProcAddr>("vkGetInstanceProcAddr");
    return found ? found(instance, name) : nullptr;
}

// The others are called once there is a device, and so a loader.

PFN_vkVoidFunction vkGetDeviceProcAddr(VkDevice device, const char * name) {
    static const auto found = function<PFN_vkGetDeviceProcAddr>("vkGetDeviceProcAddr");
    return found(device, name);
}

void vkGetPhysicalDeviceFeatures2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 * features) {
    static const auto found = function<PFN_vkGetPhysicalDeviceFeatures2>("vkGetPhysicalDeviceFeatures2");
    found(device, features);
}

void vkCmdCopyBuffer(
    VkCommandBuffer commands, VkBuffer from, VkBuffer to, uint32_t n_regions, const VkBufferCopy * regions) {
    static const auto found = function<PFN_vkCmdCopyBuffer>("vkCmdCopyBuffer");
    found(commands, from, to, n_regions, regions);
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
