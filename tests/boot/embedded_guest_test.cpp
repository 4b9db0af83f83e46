#include "boot/embedded_guest.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <string_view>

namespace doppel::boot {
namespace {

std::string_view text(std::span<const std::byte> bytes, std::size_t offset, std::size_t length) {
  return {reinterpret_cast<const char*>(bytes.data()) + offset, length};
}

TEST(EmbeddedGuest, IsALinuxBzImageAndACpioArchive) {
  const EmbeddedGuest guest = embedded_guest();
  if (!guest.present()) GTEST_SKIP() << "built without the guest; guest/fetch gets it";
  ASSERT_GT(guest.kernel.size(), 0x268U);
  EXPECT_EQ(text(guest.kernel, 0x202, 4), "HdrS");
  ASSERT_GT(guest.initramfs.size(), 110U);
  EXPECT_EQ(text(guest.initramfs, 0, 6), "070701");
  EXPECT_EQ(guest.initramfs.size() % 4, 0U) << "another archive may be appended only on a multiple of four bytes";
}

TEST(EmbeddedGuest, HasTheKernelWithoutTheInitramfsNever) {
  EXPECT_EQ(embedded_guest().kernel.empty(), embedded_guest().initramfs.empty());
}

}  // namespace
}  // namespace doppel::boot
