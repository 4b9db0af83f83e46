#include "boot/pvh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "boot/e820.h"
#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using testing::HasSubstr;

class Pvh : public testing::Test {
 protected:
  template <class T>
  T info(std::size_t offset) {
    return test::get<T>(*memory_, layout::kStartInfo + offset);
  }

  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(64);
  BootOptions options_;
};

TEST_F(Pvh, EntersIn32BitModeAtTheNotesAddress) {
  const auto cpu = load_pvh(*memory_, test::pvh_elf(0x100'0010).build(), options_);
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_EQ(cpu->rip, 0x100'0010U);
  EXPECT_EQ(cpu->gpr[x86::kRbx], layout::kStartInfo);
  EXPECT_FALSE(cpu->long_mode_active());
  EXPECT_EQ(cpu->cr0 & (x86::cr0::kPe | x86::cr0::kPg), x86::cr0::kPe);
}

TEST_F(Pvh, TakesA4ByteNoteIn32BitFiles) {
  test::Elf elf;
  elf.wide = false;
  Bytes description;
  test::put(description, 0, std::uint32_t{0x100'0020});
  elf.note = test::make_note("Xen", 18, description);
  const auto cpu = load_pvh(*memory_, elf.build(), options_);
  ASSERT_TRUE(cpu);
  EXPECT_EQ(cpu->rip, 0x100'0020U);
}

TEST_F(Pvh, FillsTheStartInfo) {
  const Bytes initrd = test::pattern(5000), module = test::pattern(100, 2);
  options_.command_line = "console=hvc0";
  options_.initrds = {initrd};
  options_.modules = {{module, "second"}};
  options_.rsdp = 0xE'0000;
  ASSERT_TRUE(load_pvh(*memory_, test::pvh_elf().build(), options_));
  EXPECT_EQ(info<std::uint32_t>(0), 0x336E'C578U);
  EXPECT_EQ(info<std::uint32_t>(4), 1U);
  EXPECT_EQ(test::get_string(*memory_, info<std::uint64_t>(24)), "console=hvc0");
  EXPECT_EQ(info<std::uint64_t>(32), 0xE'0000U);
  const std::vector<E820Entry> map = build_e820(*memory_);
  ASSERT_EQ(info<std::uint32_t>(48), map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::uint64_t entry = info<std::uint64_t>(40) + 24 * i;
    EXPECT_EQ(test::get<std::uint64_t>(*memory_, entry), map[i].address);
    EXPECT_EQ(test::get<std::uint64_t>(*memory_, entry + 8), map[i].size);
    EXPECT_EQ(test::get<std::uint32_t>(*memory_, entry + 16), static_cast<std::uint32_t>(map[i].type));
  }
  ASSERT_EQ(info<std::uint32_t>(12), 2U);
  const auto modlist = info<std::uint64_t>(16);
  const auto first = memory_->view(test::get<std::uint64_t>(*memory_, modlist), 5000);
  EXPECT_EQ(test::get<std::uint64_t>(*memory_, modlist + 8), 5000U);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), initrd.begin()));
  EXPECT_EQ(test::get<std::uint64_t>(*memory_, modlist + 16), 0U);
  const auto second = memory_->view(test::get<std::uint64_t>(*memory_, modlist + 32), 100);
  EXPECT_TRUE(std::equal(second.begin(), second.end(), module.begin()));
  EXPECT_EQ(test::get_string(*memory_, test::get<std::uint64_t>(*memory_, modlist + 48)), "second");
}

TEST_F(Pvh, RefusesEntriesOutsideTheKernel) {
  EXPECT_THAT(load_pvh(*memory_, test::pvh_elf(0x7C00).build(), options_).error().message, HasSubstr("outside"));
  EXPECT_THAT(load_pvh(*memory_, test::Elf{}.build(), options_).error().message, HasSubstr("no PVH entry"));
}

TEST_F(Pvh, TooManyModulesAreAnError) {
  const Bytes byte(1);
  options_.modules.assign(1000, {byte, "m"});
  EXPECT_THAT(load_pvh(*memory_, test::pvh_elf().build(), options_).error().message, HasSubstr("too many"));
  options_.modules.clear();
  options_.command_line.assign(1 << 16, 'x');
  EXPECT_THAT(load_pvh(*memory_, test::pvh_elf().build(), options_).error().message, HasSubstr("too long"));
}

TEST_F(Pvh, NoDamagedFileCrashes) {
  test::Elf elf = test::pvh_elf();
  elf.text.resize(300);
  const Bytes whole = elf.build();
  const auto small = test::make_memory(17);
  test::damage(whole, whole.size(), [&](std::span<const std::byte> file) {
    const auto cpu = load_pvh(*small, file, options_);
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
