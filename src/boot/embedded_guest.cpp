#include "boot/embedded_guest.h"

// Defined by cmake/embedded_guest.S.in.
extern "C" {
extern const std::byte doppel_guest_kernel[];
extern const std::byte doppel_guest_kernel_end[];
extern const std::byte doppel_guest_initrd[];
extern const std::byte doppel_guest_initrd_end[];
}

namespace doppel::boot {

EmbeddedGuest embedded_guest() {
  return {.kernel = {doppel_guest_kernel, doppel_guest_kernel_end},
          .initramfs = {doppel_guest_initrd, doppel_guest_initrd_end}};
}

}  // namespace doppel::boot
