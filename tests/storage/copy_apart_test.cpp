#include "storage/copy_apart.h"

#include <gtest/gtest.h>

namespace doppel::storage {
namespace {

constexpr std::uint64_t kLarge = CopyApart::kLarge;

/// One after the other: how many of so many copies went to another thread.
unsigned alone(CopyApart& copies, unsigned count) {
  unsigned apart = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (!copies.begin(false, kLarge)) continue;
    ++apart;
    copies.ended();
  }
  return apart;
}

TEST(CopyApart, SmallCopiesAndThoseOfOneProcessorAreMadeAtOnce) {
  CopyApart copies(1), single(0);
  for (unsigned i = 0; i < 100; ++i) {
    EXPECT_FALSE(copies.begin(false, kLarge - 1));
    EXPECT_FALSE(single.begin(false, kLarge));
  }
}

TEST(CopyApart, AGuestThatWaitsForEachRequestIsSeldomMadeToWaitForAThread) {
  CopyApart copies(1);
  EXPECT_EQ(alone(copies, 10 * CopyApart::kTryOneIn), 10U);
}

TEST(CopyApart, AGuestThatGoesOnGetsAThreadUntilItWaitsAgain) {
  CopyApart copies(1);
  ASSERT_TRUE(copies.begin(false, kLarge));  // to find out
  ASSERT_TRUE(copies.begin(false, kLarge));  // it went on
  copies.ended();
  copies.ended();
  ASSERT_TRUE(copies.begin(false, kLarge));
  copies.ended();
  EXPECT_LT(alone(copies, CopyApart::kTryOneIn), CopyApart::kTryOneIn / 2);
}

TEST(CopyApart, ReadsThatWaitForThreadsAreLimitedAndWritesAreNot) {
  CopyApart copies(1);
  unsigned apart = 0;
  while (copies.begin(false, kLarge)) ASSERT_LT(++apart, 100U);
  EXPECT_TRUE(copies.begin(true, kLarge));
  copies.ended();
  copies.ended();
  EXPECT_TRUE(copies.begin(false, kLarge));
}

}  // namespace
}  // namespace doppel::storage
