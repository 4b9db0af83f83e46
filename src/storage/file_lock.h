#pragma once

#include <string>

#include "base/result.h"

namespace doppel::storage {

/// Locks the open file `fd` against other users of the image, by the byte ranges that QEMU uses (open file description
/// locks on bytes 100+p for each permission p held and 200+p for each that others may not hold), so the two see each
/// other. Any number may read; who writes is alone. The lock goes when the last descriptor of this open file is closed.
Result<void> lock_image(int fd, const std::string& path, bool read_only);
/// Keeps the lock of a reader only.
void unlock_writing(int fd);

}  // namespace doppel::storage
