#include "boot/multiboot1.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "boot/e820.h"
#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using testing::HasSubstr;

class Multiboot1 : public testing::Test {
 protected:
  Result<x86::CpuState> load(const Bytes& file) { return load_multiboot1(*memory_, file, options_); }
  std::uint32_t info(std::size_t offset) { return test::get<std::uint32_t>(*memory_, layout::kStartInfo + offset); }

  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(64);
  BootOptions options_;
};

TEST_F(Multiboot1, LoadsElfFilesAndTranslatesTheirVirtualEntry) {
  const auto cpu = load(test::multiboot_elf());
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_EQ(cpu->rip, 0x10'0020U);
  EXPECT_EQ(cpu->gpr[x86::kRax], 0x2BAD'B002U);
  EXPECT_EQ(cpu->gpr[x86::kRbx], layout::kStartInfo);
  EXPECT_FALSE(cpu->long_mode_active());
  EXPECT_EQ(test::get<std::uint32_t>(*memory_, 0x10'0000), 0x1BAD'B002U);
}

TEST_F(Multiboot1, LoadsFlatFilesByTheirHeader) {
  const Bytes rubbish(0x8000, std::byte{0xAA});
  memory_->write(0x20'0000, rubbish);
  const Bytes file = test::multiboot_flat();
  const auto cpu = load(file);
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_EQ(cpu->rip, 0x20'0100U);
  const auto there = memory_->view(0x20'0000, 0x8000);
  EXPECT_TRUE(std::equal(file.begin(), file.begin() + 2048, there.begin()));
  for (std::size_t i = 2048; i < 0x4000; ++i) ASSERT_EQ(there[i], std::byte{0}) << i;
  EXPECT_EQ(there[0x4000], std::byte{0xAA});
}

TEST_F(Multiboot1, FillsTheInformation) {
  const Bytes initrd = test::pattern(5000), module = test::pattern(100, 2);
  options_.command_line = "verbose";
  options_.initrds = {initrd};
  options_.modules = {{module, "disk.img ro"}};
  ASSERT_TRUE(load(test::multiboot_elf()));
  EXPECT_EQ(info(0), 1U | 4U | 8U | 64U | 512U);
  EXPECT_EQ(info(4), 639U);
  EXPECT_EQ(info(8), 63U * 1024U);
  EXPECT_EQ(test::get_string(*memory_, info(16)), "verbose");
  EXPECT_EQ(test::get_string(*memory_, info(64)), "Doppel");
  ASSERT_EQ(info(20), 2U);
  const std::uint64_t list = info(24);
  const auto word = [&](std::size_t offset) { return test::get<std::uint32_t>(*memory_, list + offset); };
  EXPECT_EQ(word(4) - word(0), 5000U);
  EXPECT_EQ(word(0) % 4096, 0U) << "modules are page-aligned";
  EXPECT_EQ(word(16 + 4) - word(16), 100U);
  EXPECT_EQ(test::get_string(*memory_, word(16 + 8)), "disk.img ro");
  const auto second = memory_->view(word(16), 100);
  EXPECT_TRUE(std::equal(second.begin(), second.end(), module.begin()));

  const std::vector<E820Entry> map = build_e820(*memory_);
  ASSERT_EQ(info(44), 24 * map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::uint64_t entry = info(48) + 24 * i;
    EXPECT_EQ(test::get<std::uint32_t>(*memory_, entry), 20U);
    EXPECT_EQ(test::get<std::uint64_t>(*memory_, entry + 4), map[i].address);
    EXPECT_EQ(test::get<std::uint64_t>(*memory_, entry + 12), map[i].size);
    EXPECT_EQ(test::get<std::uint32_t>(*memory_, entry + 20), static_cast<std::uint32_t>(map[i].type));
  }
}

TEST_F(Multiboot1, FindsTheHeaderOnlyInTheFirst8KiBAndAligned) {
  Bytes file(16384);
  test::put_multiboot_header(file, 8192 - 12, 0);
  EXPECT_TRUE(has_multiboot1_header(file));
  file.assign(16384, std::byte{0});
  test::put_multiboot_header(file, 8192, 0);
  EXPECT_FALSE(has_multiboot1_header(file));
  file.assign(16384, std::byte{0});
  test::put_multiboot_header(file, 66, 0);
  EXPECT_FALSE(has_multiboot1_header(file));
  file.assign(16384, std::byte{0});
  test::put_multiboot_header(file, 64, 0);
  test::put(file, 72, std::uint32_t{1});
  EXPECT_FALSE(has_multiboot1_header(file)) << "wrong checksum";
}

TEST_F(Multiboot1, RefusesDemandsThatDoNotExist) {
  EXPECT_TRUE(load(test::multiboot_elf(7))) << "a video mode is only a wish";
  EXPECT_THAT(load(test::multiboot_elf(8)).error().message, HasSubstr("nobody has defined"));
}

TEST_F(Multiboot1, RefusesHeadersThatContradictThemselves) {
  const auto changed = [&](std::size_t field, std::uint32_t value) {
    Bytes file = test::multiboot_flat();
    test::put(file, 64 + field, value);
    const auto cpu = load(file);
    return cpu ? std::string("no error") : cpu.error().message;
  };
  EXPECT_THAT(changed(12, 0x10'0000), HasSubstr("damaged"));  // header_addr below load_addr
  EXPECT_THAT(changed(12, 0x20'1000), HasSubstr("damaged"));  // load_addr before the file's start
  EXPECT_THAT(changed(20, 0x1F'0000), HasSubstr("less than nothing"));
  EXPECT_THAT(changed(20, 0x20'2000), HasSubstr("truncated"));
  EXPECT_THAT(changed(28, 0x30'0000), HasSubstr("entry point"));
  EXPECT_THAT(changed(24, 0xFFFF'FFFF), HasSubstr("needs"));  // bss past the end of RAM
}

TEST_F(Multiboot1, NoDamagedFileCrashes) {
  for (const Bytes& whole : {test::multiboot_elf(), test::multiboot_flat()}) {
    const auto small = test::make_memory(8);
    test::damage(whole, 600, [&](std::span<const std::byte> file) {
      const auto cpu = load_multiboot1(*small, file, options_);
      if (cpu) {
        EXPECT_NE(small->page(cpu->rip), nullptr);
      }
      if (!cpu) {
        EXPECT_FALSE(cpu.error().message.empty());
      }
    });
  }
}

}  // namespace
}  // namespace doppel::boot
