#include "boot/smbios.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "boot/kernel_images.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

/// One structure as a reader finds it (SMBIOS 3.3, 6.1.2, 6.1.3).
struct Parsed {
  std::uint64_t address = 0;
  std::uint8_t length = 0;
  std::vector<std::string> strings;
};

class Smbios : public testing::TestWithParam<std::uint64_t> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(write_smbios(*memory_, config_));
    std::uint64_t at = get<std::uint64_t>(layout::kSmbios + 16);
    const std::uint64_t end = at + get<std::uint32_t>(layout::kSmbios + 12);
    while (at < end) {
      const auto type = get<std::uint8_t>(at);
      Parsed parsed{at, get<std::uint8_t>(at + 1), {}};
      at += parsed.length;
      do {
        const std::string text = test::get_string(*memory_, at);
        at += text.size() + 1;
        if (!text.empty()) parsed.strings.push_back(text);
      } while (get<std::uint8_t>(at) != 0);
      ++at;
      structures_.emplace(type, parsed);
    }
    EXPECT_EQ(at, end) << "the table ends with its last structure";
  }
  template <class T>
  T get(std::uint64_t address) {
    return test::get<T>(*memory_, address);
  }
  const Parsed& only(unsigned type) {
    EXPECT_EQ(structures_.count(type), 1U) << "type " << type;
    return structures_.find(type)->second;
  }

  SmbiosConfig config_{
      .uuid = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF},
      .cpus = 3};
  std::unique_ptr<memory::GuestMemory> memory_ = test::make_memory(GetParam());
  std::multimap<unsigned, Parsed> structures_;
};

TEST_P(Smbios, EntryPointIsValid) {
  EXPECT_EQ(layout::kSmbios % 16, 0U);
  const auto raw = memory_->view(layout::kSmbios, 24);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(raw.data()), 5), "_SM3_");
  EXPECT_EQ(get<std::uint8_t>(layout::kSmbios + 6), 24);
  unsigned sum = 0;
  for (const std::byte b : raw) sum += std::to_integer<unsigned>(b);
  EXPECT_EQ(sum % 256, 0U);
}

TEST_P(Smbios, LengthsAreThoseOfTheSpecification) {
  const std::map<unsigned, unsigned> expected{{0, 0x1A},  {1, 0x1B},  {3, 0x16},  {4, 0x30}, {16, 0x17},
                                              {17, 0x28}, {19, 0x1F}, {32, 0x0B}, {127, 4}};
  for (const auto& [type, structure] : structures_) {
    ASSERT_TRUE(expected.count(type)) << type;
    EXPECT_EQ(structure.length, expected.at(type)) << type;
  }
  for (const auto& [type, length] : expected) EXPECT_GE(structures_.count(type), 1U) << type;
}

TEST_P(Smbios, NamesTheSystem) {
  const Parsed& system = only(1);
  EXPECT_EQ(system.strings.at(get<std::uint8_t>(system.address + 5) - 1U), "Doppel");
  // 33221100-5544-7766-8899-AABBCCDDEEFF reads back as 00112233-4455-6677-8899-AABBCCDDEEFF.
  const std::array<std::uint8_t, 8> little_endian{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66};
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(get<std::uint8_t>(system.address + 8 + i), i < 8 ? little_endian[i] : config_.uuid[i]);
  }
}

TEST_P(Smbios, CountsProcessorsAndMemory) {
  const Parsed& cpu = only(4);
  EXPECT_EQ(get<std::uint8_t>(cpu.address + 0x23), 3);
  EXPECT_EQ(get<std::uint16_t>(cpu.address + 0x2E), 3);
  const Parsed& device = only(17);
  const std::uint64_t size = get<std::uint16_t>(device.address + 0x0C);
  EXPECT_EQ(size == 0x7FFF ? get<std::uint32_t>(device.address + 0x1C) : size, GetParam());
  EXPECT_EQ(get<std::uint32_t>(only(16).address + 7), GetParam() << 10);
  std::uint64_t mapped = 0;
  const auto [first, last] = structures_.equal_range(19);
  for (auto it = first; it != last; ++it) {
    mapped += get<std::uint32_t>(it->second.address + 8) - get<std::uint32_t>(it->second.address + 4) + 1;
  }
  EXPECT_EQ(mapped, GetParam() << 10);
}

TEST_P(Smbios, HandlesAreUnique) {
  std::map<unsigned, unsigned> count;
  for (const auto& [type, structure] : structures_) ++count[get<std::uint16_t>(structure.address + 2)];
  for (const auto& [handle, times] : count) EXPECT_EQ(times, 1U) << handle;
}

INSTANTIATE_TEST_SUITE_P(Mebibytes, Smbios, testing::Values(64, 3072, 6144, 32767));

}  // namespace
}  // namespace doppel::boot
