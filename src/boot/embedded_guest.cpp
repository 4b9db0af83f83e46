#include "boot/embedded_guest.h"

// Defined by cmake/embedded_guest.S.in.
extern "C" {
extern const std::byte doppel_guest_kernel[];
extern const std::byte doppel_guest_kernel_end[];
extern const std::byte doppel_guest_initrd[];
extern const std::byte doppel_guest_initrd_end[];
extern const std::byte doppel_guest_agent[];
extern const std::byte doppel_guest_agent_end[];
extern const std::byte doppel_guest_shares[];
extern const std::byte doppel_guest_shares_end[];
extern const char doppel_guest_agent_install[];
extern const char doppel_guest_agent_install_end[];
extern const char doppel_debian_customize[];
extern const char doppel_debian_customize_end[];
extern const char doppel_debian_pack[];
extern const char doppel_debian_pack_end[];
}

namespace doppel::boot {

EmbeddedGuest embedded_guest() {
  return {.kernel = {doppel_guest_kernel, doppel_guest_kernel_end},
          .initramfs = {doppel_guest_initrd, doppel_guest_initrd_end}};
}

DebianRecipe debian_recipe() {
  return {.agent = {doppel_guest_agent, doppel_guest_agent_end},
          .agent_install = {doppel_guest_agent_install, doppel_guest_agent_install_end},
          .shares = {doppel_guest_shares, doppel_guest_shares_end},
          .customize = {doppel_debian_customize, doppel_debian_customize_end},
          .pack = {doppel_debian_pack, doppel_debian_pack_end}};
}

}  // namespace doppel::boot
