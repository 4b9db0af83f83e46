#include "base/reserved_array.h"

#include <gtest/gtest.h>

#include <array>

namespace doppel {
namespace {

TEST(ReservedArray, GrowsInPlace) {
  Result<ReservedArray<int>> array = ReservedArray<int>::create(100'000);
  ASSERT_TRUE(array) << array.error().message;
  const std::span<int> first = array->append(std::array{1, 2, 3});
  for (int i = 0; i < 99'000; ++i) array->append(std::array{i});
  EXPECT_EQ(array->size(), 99'003U);
  EXPECT_EQ(first.data(), &(*array)[0]);
  EXPECT_EQ(first[2], 3);
  EXPECT_EQ((*array)[99'002], 98'999);
}

TEST(ReservedArray, SaysWhenItIsFull) {
  Result<ReservedArray<int>> array = ReservedArray<int>::create(3);
  ASSERT_TRUE(array);
  array->append(std::array{1, 2});
  EXPECT_TRUE(array->has_room(1));
  EXPECT_FALSE(array->has_room(2));
  array->clear();
  EXPECT_EQ(array->size(), 0U);
  EXPECT_TRUE(array->has_room(3));
}

}  // namespace
}  // namespace doppel
