// `doppel run --engine lockstep`: the translator executes the default guest as the interpreter does.

#include <gtest/gtest.h>

#include "guest/doppel_process.h"

namespace doppel::test {
namespace {

TEST(Lockstep, AWholeBootShowsNoDifference) {
  const RunResult result = run_doppel({"run", "--engine", "lockstep", "--memory", "512M", "-c", "true"});
  EXPECT_EQ(result.status, 0) << result.errors;
}

TEST(Lockstep, SeveralProcessorsAreRefused) {
  const RunResult result = run_doppel({"run", "--engine", "lockstep", "--cpus", "2", "-c", "true"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.errors.find("--cpus 1"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace doppel::test
