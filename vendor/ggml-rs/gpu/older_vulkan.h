// What ggml's Vulkan backend names of VK_EXT_layer_settings, for headers before 1.3.272, such as Debian 12's. It asks for nothing
// of that unless it was built for validation, and drivers pass over a struct of a type that they don't know. The
// layouts and the number are those of Vulkan's specification.
#pragma once

#include <vulkan/vulkan_core.h>

#ifndef VK_EXT_layer_settings

#include <cstdint>
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : uint32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char * layer_name;
    const char * setting_name;
    LayerSettingTypeEXT type;
    uint32_t n_values;
    const void * values;
};

struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & settings) :
        n_settings(uint32_t(settings.size())), settings(settings.data()) {}

    uint32_t type     = 1000496000;
    const void * next = nullptr;
    uint32_t n_settings;
    const LayerSettingEXT * settings;
};

}  // namespace vk

#endif
