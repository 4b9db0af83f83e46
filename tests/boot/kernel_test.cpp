#include "boot/kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "boot/embedded_guest.h"
#include "boot/kernel_images.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using testing::HasSubstr;

std::string complaint(const Bytes& file) {
  const auto kind = identify_kernel(file);
  return kind ? "none" : kind.error().message;
}

TEST(IdentifyKernel, KnowsEveryKind) {
  EXPECT_EQ(*identify_kernel(test::BzImage{}.build()), KernelKind::LinuxBzImage);
  EXPECT_EQ(*identify_kernel(test::pvh_elf().build()), KernelKind::Pvh);
  EXPECT_EQ(*identify_kernel(test::multiboot_elf()), KernelKind::Multiboot1);
  EXPECT_EQ(*identify_kernel(test::multiboot_flat()), KernelKind::Multiboot1);
  EXPECT_EQ(*identify_kernel(test::Elf{}.build()), KernelKind::LinuxVmlinux);
}

TEST(IdentifyKernel, PvhComesBeforeMultiboot) {
  test::Elf elf = test::pvh_elf();
  test::put_multiboot_header(elf.text, 0, 0);
  EXPECT_EQ(*identify_kernel(elf.build()), KernelKind::Pvh);
}

TEST(IdentifyKernel, SaysWhatTheFileIsInstead) {
  EXPECT_THAT(complaint({}), HasSubstr("empty"));
  const auto starting_with = [](std::string_view magic, std::size_t offset = 0) {
    Bytes file(0x9000);
    const Bytes raw = test::bytes_of(magic);
    std::copy(raw.begin(), raw.end(), file.begin() + static_cast<std::ptrdiff_t>(offset));
    return complaint(file);
  };
  EXPECT_THAT(starting_with("\x1F\x8B\x08"), HasSubstr("gunzip"));
  EXPECT_THAT(starting_with("\3757zXZ"), HasSubstr("unxz"));
  EXPECT_THAT(starting_with("\x28\xB5\x2F\xFD"), HasSubstr("unzstd"));
  EXPECT_THAT(starting_with("QFI\xFB"), HasSubstr("qcow2"));
  EXPECT_THAT(starting_with("070701"), HasSubstr("--initrd"));
  EXPECT_THAT(starting_with("CD001", 0x8001), HasSubstr("ISO 9660"));
  EXPECT_THAT(starting_with("\x55\xAA", 0x1FE), HasSubstr("disk image"));
  EXPECT_THAT(starting_with("ARMd", 0x38), HasSubstr("arm64"));
  EXPECT_THAT(starting_with("#!/bin/sh"), HasSubstr("script"));
  EXPECT_THAT(starting_with("MZ"), HasSubstr("EFI program"));
  EXPECT_THAT(starting_with("hello"), HasSubstr("begin like no format"));
  EXPECT_THAT(starting_with("hello"), HasSubstr("expected a Linux bzImage"));
}

TEST(IdentifyKernel, TellsElfProgramsFromKernels) {
  test::Elf program;
  program.physical = program.virtual_address = 0x40'0000;
  program.entry = 0x50'0000;
  EXPECT_THAT(complaint(program.build()), HasSubstr("ELF program without a kernel's entry point"));
  Bytes arm = test::Elf{}.build();
  test::put(arm, 18, std::uint16_t{183});
  EXPECT_THAT(complaint(arm), HasSubstr("another processor"));
}

TEST(LoadKernel, LoadsEveryKind) {
  for (const Bytes& file : {test::BzImage{}.build(), test::pvh_elf().build(), test::multiboot_elf(),
                            test::multiboot_flat(), test::Elf{}.build()}) {
    const auto memory = test::make_memory(64);
    const auto cpu = load_kernel(*memory, file, {});
    ASSERT_TRUE(cpu) << cpu.error().message;
    EXPECT_NE(memory->page(cpu->rip), nullptr);
  }
}

TEST(LoadKernel, LoadsTheEmbeddedGuestBothWays) {
  const EmbeddedGuest guest = embedded_guest();
  if (!guest.present()) GTEST_SKIP() << "built without the guest; guest/fetch gets it";
  for (const bool unpack : {false, true}) {
    const auto memory = test::make_memory(128);
    BootOptions options;
    options.command_line = "console=ttyS0";
    options.initrds = {guest.initramfs};
    options.unpack_on_host = unpack;
    const auto cpu = load_kernel(*memory, guest.kernel, options);
    ASSERT_TRUE(cpu) << cpu.error().message;
    EXPECT_TRUE(cpu->code_64());
    EXPECT_EQ(cpu->rip % 0x1000 == 0x200, !unpack) << "the compressed kernel's entry, or the kernel's own";
  }
}

TEST(LoadKernel, WorksAboveThePciHole) {
  const auto memory = test::make_memory(6144);
  const Bytes initrd(1 << 20);
  BootOptions options;
  options.initrds = {initrd};
  for (const Bytes& file : {test::BzImage{}.build(), test::pvh_elf().build(), test::multiboot_elf()}) {
    EXPECT_TRUE(load_kernel(*memory, file, options));
  }
}

}  // namespace
}  // namespace doppel::boot
