#include "isa/code_area.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <string>

namespace doppel::isa {
namespace {

TEST(CodeArea, runs_what_was_written) {
  Result<CodeArea> area = CodeArea::create(4096);
  ASSERT_TRUE(area.ok()) << area.error().message;
  constexpr std::array kReturnSeven{std::byte{0xB8}, std::byte{7}, std::byte{0},
                                    std::byte{0},    std::byte{0}, std::byte{0xC3}};
  std::byte* code = area->reserve(kReturnSeven.size());
  ASSERT_NE(code, nullptr);
  area->write(code, kReturnSeven);
  EXPECT_EQ(reinterpret_cast<int (*)()>(code)(), 7);
}

TEST(CodeArea, is_full_at_some_point) {
  Result<CodeArea> area = CodeArea::create(4096);
  ASSERT_TRUE(area.ok());
  EXPECT_NE(area->reserve(4000), nullptr);
  EXPECT_EQ(area->reserve(97), nullptr);
  EXPECT_EQ(area->reserve(~std::size_t{0}), nullptr);
}

TEST(CodeArea, is_never_writable_and_executable_at_once) {
  Result<CodeArea> area = CodeArea::create(1 << 20);
  ASSERT_TRUE(area.ok());
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) EXPECT_EQ(line.find("rwx"), std::string::npos) << line;
}

}  // namespace
}  // namespace doppel::isa
