#include "machine/panic_watch.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace doppel::machine {
namespace {

std::vector<std::string> panics_in(std::initializer_list<std::string_view> pieces) {
  std::vector<std::string> found;
  PanicWatch watch([&found](std::string reason) { found.push_back(std::move(reason)); });
  for (const std::string_view piece : pieces) watch.feed(std::as_bytes(std::span{piece}));
  return found;
}

TEST(PanicWatch, ReportsTheReasonOnceTheKernelHasPrintedItAll) {
  EXPECT_EQ(panics_in({"[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"}),
            std::vector<std::string>{});
  EXPECT_EQ(panics_in({"[    1.1] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---\r\n"}),
            std::vector<std::string>{"VFS: Unable to mount root fs"});
}

TEST(PanicWatch, JoinsPieces) {
  EXPECT_EQ(panics_in({"---[ end Kernel pa", "nic - not syncing: x", " ]---", "\n"}), std::vector<std::string>{"x"});
}

TEST(PanicWatch, OverlongLinesAreForgotten) {
  const std::string line(100'000, 'a');
  EXPECT_EQ(panics_in({line, "---[ end Kernel panic - not syncing: x ]---\n"}), std::vector<std::string>{});
}

TEST(PanicWatch, KnowsTheReasonBeforeTheReportIsWhole) {
  PanicWatch watch([](const std::string&) { FAIL() << "the report is not whole"; });
  EXPECT_EQ(watch.reason(), "no reason on its console");
  constexpr std::string_view kLine = "[    1.0] Kernel panic - not syncing: sysrq triggered crash\r\n";
  watch.feed(std::as_bytes(std::span{kLine}));
  EXPECT_EQ(watch.reason(), "sysrq triggered crash");
}

}  // namespace
}  // namespace doppel::machine
