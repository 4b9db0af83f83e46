// memtest86+ as a judge of memory, paging and timing: no Linux, its own drivers.

#include <gtest/gtest.h>

#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

TEST(Memtest86Plus, IdentifiesMemoryAndPassesOverIt) {
  const auto memtest = guest_file("memtest64");
  if (!memtest) GTEST_SKIP() << "memtest86+ is not in the guest cache; guest/fetch --all gets it";

  DoppelProcess doppel({"run", *memtest, "--memory", "64M", "--append", "console=ttyS0,115200"});
  ASSERT_TRUE(doppel.expect("Memtest86+")) << doppel.output() << doppel.errors();
  // It announces nothing: the counter of passes goes up, with that of errors beside it.
  ASSERT_TRUE(doppel.expect("| Pass:  1        Errors: 0 ", std::chrono::seconds(1100))) << doppel.output();
}

}  // namespace
}  // namespace doppel::test
