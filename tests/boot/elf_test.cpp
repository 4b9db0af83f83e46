#include "boot/elf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "boot/kernel_images.h"

namespace doppel::boot {
namespace {

using test::Bytes;
using testing::HasSubstr;

class ElfFileTest : public testing::TestWithParam<bool> {
 protected:
  test::Elf make() const {
    test::Elf elf;
    elf.wide = GetParam();
    if (!elf.wide) elf.virtual_address = 0xC100'0000;
    return elf;
  }
};

TEST_P(ElfFileTest, ReadsHeaderAndSegments) {
  const Bytes file = make().build();
  const auto elf = ElfFile::parse(file);
  ASSERT_TRUE(elf) << elf.error().message;
  EXPECT_EQ(elf->machine(), GetParam() ? ElfMachine::X86_64 : ElfMachine::I386);
  EXPECT_EQ(elf->entry(), 0x100'0000U);
  ASSERT_EQ(elf->segments().size(), 1U);
  const ElfSegment& segment = elf->segments()[0];
  EXPECT_EQ(segment.physical_address, 0x100'0000U);
  EXPECT_EQ(segment.virtual_address, make().virtual_address);
  EXPECT_EQ(segment.file_size, 4096U);
  EXPECT_EQ(segment.memory_size, 4096U + 0x3000);
  EXPECT_TRUE(elf->loads_at(0x100'0FFF));
  EXPECT_FALSE(elf->loads_at(0x100'1000)) << "zeroed memory holds no code";
  EXPECT_EQ(elf->physical(make().virtual_address + 0x10), 0x100'0010U);
  EXPECT_FALSE(elf->physical(0x1000));
}

TEST_P(ElfFileTest, LoadsFileAndZeroes) {
  const auto memory = test::make_memory(64);
  const Bytes rubbish(0x8000, std::byte{0xAA});
  memory->write(0x100'0000, rubbish);
  const test::Elf made = make();
  const Bytes file = made.build();
  RamPlan plan(*memory);
  ASSERT_TRUE(ElfFile::parse(file)->load(plan));
  const auto there = memory->view(0x100'0000, 0x8000);
  EXPECT_TRUE(std::equal(made.text.begin(), made.text.end(), there.begin()));
  for (std::size_t i = 4096; i < 4096 + 0x3000; ++i) ASSERT_EQ(there[i], std::byte{0}) << i;
  EXPECT_EQ(there[4096 + 0x3000], std::byte{0xAA});
  EXPECT_FALSE(plan.claim(0x100'0000, 1, "another"));
}

TEST_P(ElfFileTest, FindsNotesByOwnerAndType) {
  test::Elf made = make();
  made.note = test::make_note("GNU", 18, test::pattern(5));
  const Bytes wanted = test::pattern(8, 5);
  for (const Bytes& note : {test::make_note("Xen", 17, test::pattern(3)), test::make_note("Xen", 18, wanted)})
    made.note.insert(made.note.end(), note.begin(), note.end());
  const Bytes file = made.build();
  const auto elf = ElfFile::parse(file);
  ASSERT_TRUE(elf);
  const auto note = elf->find_note("Xen", 18);
  ASSERT_TRUE(note);
  EXPECT_TRUE(std::equal(note->begin(), note->end(), wanted.begin(), wanted.end()));
  EXPECT_FALSE(elf->find_note("Xen", 19));
  EXPECT_FALSE(elf->find_note("Xe", 18));
}

TEST_P(ElfFileTest, RefusesWhatIsNotAnX86Executable) {
  const auto changed = [&](std::size_t offset, auto value) {
    Bytes file = make().build();
    test::put(file, offset, value);
    const auto elf = ElfFile::parse(file);
    return elf ? std::string("no error") : elf.error().message;
  };
  EXPECT_THAT(changed(0, std::uint8_t{0}), HasSubstr("not ELF"));
  EXPECT_THAT(changed(4, std::uint8_t{3}), HasSubstr("little-endian"));
  EXPECT_THAT(changed(5, std::uint8_t{2}), HasSubstr("little-endian"));
  EXPECT_THAT(changed(18, std::uint16_t{183}), HasSubstr("another processor (machine number 183)"));
  EXPECT_THAT(changed(GetParam() ? 56 : 44, std::uint16_t{0}), HasSubstr("no program headers"));
  EXPECT_THAT(changed(GetParam() ? 56 : 44, std::uint16_t{0xFFFF}), HasSubstr("damaged"));
  EXPECT_THAT(changed(GetParam() ? 54 : 42, std::uint16_t{1}), HasSubstr("damaged"));
}

TEST_P(ElfFileTest, NoDamagedFileCrashes) {
  test::Elf made = make();
  made.text.resize(300);
  made.note = test::make_note("Xen", 18, test::pattern(8));
  const auto memory = test::make_memory(17);
  const Bytes whole = made.build();
  test::damage(whole, whole.size(), [&](std::span<const std::byte> file) {
    const auto elf = ElfFile::parse(file);
    if (!elf) return;
    elf->find_note("Xen", 18);
    elf->physical(elf->entry());
    RamPlan plan(*memory);
    if (const Result<void> loaded = elf->load(plan); !loaded) {
      EXPECT_FALSE(loaded.error().message.empty());
    }
  });
}

TEST_P(ElfFileTest, EveryTruncationIsAnError) {
  const Bytes whole = make().build();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    ASSERT_FALSE(ElfFile::parse(std::span{whole}.first(length))) << length;
  }
}

INSTANTIATE_TEST_SUITE_P(Classes, ElfFileTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Elf64" : "Elf32"; });

}  // namespace
}  // namespace doppel::boot
