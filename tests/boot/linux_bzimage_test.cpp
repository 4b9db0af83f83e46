#include "boot/linux_bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include "boot/e820.h"
#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using test::BzImage;
using testing::HasSubstr;

class LinuxBzImage : public testing::Test {
 protected:
  Result<x86::CpuState> load(const BzImage& kernel) { return load_linux_bzimage(*memory_, kernel.build(), options_); }
  template <class T>
  T zero_page(std::size_t offset) {
    return test::get<T>(*memory_, layout::kZeroPage + offset);
  }

  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(64);
  BootOptions options_;
};

TEST_F(LinuxBzImage, EntersThe64BitEntryPoint) {
  const BzImage kernel;
  const auto cpu = load(kernel);
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_TRUE(cpu->code_64());
  EXPECT_EQ(cpu->rip, 0x100'0200U);
  EXPECT_EQ(cpu->gpr[x86::kRsi], layout::kZeroPage);
  const auto loaded = memory_->view(0x100'0000, kernel.system.size());
  EXPECT_TRUE(std::equal(loaded.begin(), loaded.end(), kernel.system.begin()));
}

TEST_F(LinuxBzImage, EntersThe32BitEntryPointOfKernelsWithoutTheOther) {
  BzImage kernel;
  kernel.xloadflags = 0;
  const auto cpu = load(kernel);
  ASSERT_TRUE(cpu);
  EXPECT_FALSE(cpu->long_mode_active());
  EXPECT_TRUE(cpu->protected_mode());
  EXPECT_EQ(cpu->rip, 0x100'0000U);
  EXPECT_EQ(cpu->gpr[x86::kRsi], layout::kZeroPage);
}

TEST_F(LinuxBzImage, OldProtocolsLoadAtOneMebibyteIn32BitMode) {
  BzImage kernel;
  kernel.version = 0x204;
  const auto cpu = load(kernel);
  ASSERT_TRUE(cpu);
  EXPECT_FALSE(cpu->long_mode_active());
  EXPECT_EQ(cpu->rip, layout::kHighMemory);
  kernel.version = 0x1FF;
  EXPECT_THAT(load(kernel).error().message, HasSubstr("zImage"));
  kernel.version = 0x20F;
  kernel.loadflags = 0;
  EXPECT_THAT(load(kernel).error().message, HasSubstr("zImage"));
}

TEST_F(LinuxBzImage, FillsTheZeroPage) {
  options_.command_line = "console=ttyS0";
  options_.rsdp = 0xE'0000;
  ASSERT_TRUE(load({}));
  EXPECT_EQ(zero_page<std::uint16_t>(0x1FE), 0xAA55);
  EXPECT_EQ(zero_page<std::uint32_t>(0x202), 0x5372'6448U);
  EXPECT_EQ(zero_page<std::uint8_t>(0x210), 0xFF);
  EXPECT_EQ(zero_page<std::uint32_t>(0x214), 0x100'0000U);
  EXPECT_EQ(zero_page<std::uint64_t>(0x70), 0xE'0000U);
  EXPECT_EQ(zero_page<std::uint8_t>(0x1EF), 0) << "the sentinel tells that the page was zeroed";
  EXPECT_EQ(test::get_string(*memory_, zero_page<std::uint32_t>(0x228)), "console=ttyS0");
  EXPECT_EQ(zero_page<std::uint64_t>(0x250), 0U) << "no setup_data without a seed";
  EXPECT_EQ(zero_page<std::uint32_t>(0x218), 0U);
  const std::vector<E820Entry> map = build_e820(*memory_);
  ASSERT_EQ(zero_page<std::uint8_t>(0x1E8), map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    EXPECT_EQ(zero_page<std::uint64_t>(0x2D0 + 20 * i), map[i].address);
    EXPECT_EQ(zero_page<std::uint64_t>(0x2D8 + 20 * i), map[i].size);
    EXPECT_EQ(zero_page<std::uint32_t>(0x2E0 + 20 * i), static_cast<std::uint32_t>(map[i].type));
  }
}

TEST_F(LinuxBzImage, JoinsInitrdsBelowTheKernelsLimit) {
  const Bytes first = test::pattern(4097, 3), second = test::pattern(100, 4);
  options_.initrds = {first, second};
  BzImage kernel;
  kernel.initrd_addr_max = 0x2FF'FFFF;
  ASSERT_TRUE(load(kernel));
  const auto at = zero_page<std::uint32_t>(0x218);
  EXPECT_EQ(zero_page<std::uint32_t>(0x21C), 4100U + 100U);
  EXPECT_EQ(at % 4096, 0U);
  EXPECT_LE(at + 4200, 0x300'0000U);
  EXPECT_GE(at + 4200 + 4096, 0x300'0000U) << "as high as may be";
  const auto there = memory_->view(at, 4200);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), there.begin()));
  EXPECT_TRUE(std::equal(second.begin(), second.end(), there.begin() + 4100));
  for (std::size_t i = 4097; i < 4100; ++i) EXPECT_EQ(there[i], std::byte{0});
}

TEST_F(LinuxBzImage, InitrdNeverLiesOverTheKernel) {
  const Bytes initrd(41 << 20);
  options_.initrds = {initrd};
  BzImage kernel;
  kernel.init_size = 8 << 20;
  EXPECT_FALSE(load(kernel)) << "40 MiB lie above the kernel, 15 below";
  const Bytes smaller(40 << 20);
  options_.initrds = {smaller};
  ASSERT_TRUE(load(kernel));
  EXPECT_GE(zero_page<std::uint32_t>(0x218), 0x180'0000U);
}

TEST_F(LinuxBzImage, PassesARandomSeed) {
  options_.random_seed = test::pattern(32);
  ASSERT_TRUE(load({}));
  const auto at = zero_page<std::uint64_t>(0x250);
  ASSERT_NE(at, 0U);
  EXPECT_EQ(test::get<std::uint64_t>(*memory_, at), 0U);
  EXPECT_EQ(test::get<std::uint32_t>(*memory_, at + 8), 9U);
  EXPECT_EQ(test::get<std::uint32_t>(*memory_, at + 12), 32U);
  const auto there = memory_->view(at + 16, 32);
  EXPECT_TRUE(std::equal(there.begin(), there.end(), options_.random_seed.begin()));
}

TEST_F(LinuxBzImage, RefusesCommandLinesThatTheKernelWouldCut) {
  options_.command_line = std::string(64, 'x');
  EXPECT_TRUE(load({}));
  options_.command_line += 'x';
  EXPECT_THAT(load({}).error().message, HasSubstr("65 characters, but this kernel takes at most 64"));
  options_.command_line = std::string("a\0b", 3);
  EXPECT_THAT(load({}).error().message, HasSubstr("zero byte"));
}

TEST_F(LinuxBzImage, SaysHowMuchMemoryIsMissing) {
  BzImage kernel;
  kernel.init_size = 60 << 20;
  EXPECT_THAT(load(kernel).error().message, HasSubstr("give the machine at least 76 MiB"));
  kernel.pref_address = ~std::uint64_t{0} - 100;
  EXPECT_FALSE(load(kernel));
}

TEST_F(LinuxBzImage, SaysWhenTheFileIsTruncated) {
  Bytes image = BzImage{}.build();
  image.resize(image.size() - 100);
  EXPECT_THAT(load_linux_bzimage(*memory_, image, options_).error().message, HasSubstr("truncated"));
}

TEST_F(LinuxBzImage, ToleratesASizeThatIsNotWholeParagraphs) {
  BzImage kernel;
  kernel.system.resize(4089);
  EXPECT_TRUE(load(kernel));
}

class CompressedBzImage : public LinuxBzImage {
 protected:
  static BzImage compress(const Bytes& vmlinux) {
    Bytes packed(ZSTD_compressBound(vmlinux.size()));
    packed.resize(ZSTD_compress(packed.data(), packed.size(), vmlinux.data(), vmlinux.size(), 1));
    BzImage kernel;
    kernel.payload_offset = static_cast<std::uint32_t>(kernel.system.size());
    kernel.payload_length = static_cast<std::uint32_t>(packed.size());
    std::copy(packed.begin(), packed.end(), std::back_inserter(kernel.system));
    return kernel;
  }
};

TEST_F(CompressedBzImage, IsUnpackedAndEnteredDirectly) {
  const auto cpu = load(compress(test::Elf{}.build()));
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_TRUE(cpu->code_64());
  EXPECT_EQ(cpu->rip, 0x100'0000U);
  EXPECT_EQ(cpu->gpr[x86::kRsi], layout::kZeroPage);
  EXPECT_EQ(test::get<std::uint32_t>(*memory_, 0x100'0000), load_le<std::uint32_t>(test::Elf{}.text.data()));
  EXPECT_EQ(zero_page<std::uint32_t>(0x202), 0x5372'6448U);
}

TEST_F(CompressedBzImage, I386KernelsAreEnteredIn32BitMode) {
  test::Elf elf;
  elf.wide = false;
  const auto cpu = load(compress(elf.build()));
  ASSERT_TRUE(cpu);
  EXPECT_FALSE(cpu->long_mode_active());
  EXPECT_EQ(cpu->rip, 0x100'0000U);
}

TEST_F(CompressedBzImage, UnpacksItselfIfAskedTo) {
  options_.unpack_on_host = false;
  const auto cpu = load(compress(test::Elf{}.build()));
  ASSERT_TRUE(cpu);
  EXPECT_EQ(cpu->rip, 0x100'0200U);
}

TEST_F(CompressedBzImage, DamageIsAnError) {
  BzImage kernel = compress(test::Elf{}.build());
  kernel.system[kernel.payload_offset + kernel.payload_length / 2] ^= std::byte{0xFF};
  kernel.payload_length -= 20;
  EXPECT_THAT(load(kernel).error().message, HasSubstr("damaged"));
}

TEST_F(LinuxBzImage, NoDamagedFileCrashesOrReachesOutOfRam) {
  options_.command_line = "x";
  const auto small = test::make_memory(17);
  test::damage(BzImage{}.build(), 0x290, [&](std::span<const std::byte> file) {
    const auto cpu = load_linux_bzimage(*small, file, options_);
    if (cpu) {
      EXPECT_NE(small->page(cpu->rip), nullptr);
    }
    if (!cpu) {
      EXPECT_FALSE(cpu.error().message.empty());
    }
  });
}

}  // namespace
}  // namespace doppel::boot
