// Whether this machine can have Vulkan devices at all.
#pragma once

bool owlet_has_vulkan(void);
