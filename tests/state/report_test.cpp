#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "state/contract.h"
#include "state/sample.h"
#include "state/snapshot_io.h"

namespace doppel::test {
namespace {

TEST(Inspect, ShowsNamesAndValues) {
  Sample sample;
  sample.use();
  const auto shown = state::inspect(describe_of(sample));
  EXPECT_EQ(shown, nlohmann::json::parse(R"({
    "enabled": true, "ier": 165, "offset": -1000000000000, "mode": 1, "counter": [7, 0, 65535],
    "parts": [{"base": 1, "step": -2}, {"base": 1, "step": 5}], "part": {"base": 3735928559, "step": -2},
    "fixed": "00000009", "blob": "4242424242", "label": "caf\\xc3\\xa9\\x0a", "fifo": "0200030004000500"})"));
}

TEST(Diff, IsEmptyBetweenEqualStates) {
  Sample left;
  Sample right;
  left.use();
  right.use();
  EXPECT_TRUE(state::diff(describe_of(left), describe_of(right)).empty());
}

TEST(Diff, NamesEachDifferingField) {
  Sample left;
  Sample right;
  left.ier = 3;
  left.counter[1] = 9;
  right.parts[1].step = 4;
  EXPECT_EQ(state::diff(describe_of(left), describe_of(right)),
            (std::vector<std::string>{"counter[1]: 9 != 2", "ier: 3 != 0", "parts[1].step: -2 != 4"}));
}

TEST(Diff, ShowsFieldsThatOnlyOneSideHas) {
  Sample::Part part;
  const auto with = [&](state::Visitor& v) { v.field(1, "part", part); };
  const auto without = [](state::Visitor&) {};
  EXPECT_EQ(state::diff(with, without),
            (std::vector<std::string>{"part.base: 1 != (absent)", "part.step: -2 != (absent)"}));
  EXPECT_EQ(state::diff(without, with),
            (std::vector<std::string>{"part.base: (absent) != 1", "part.step: (absent) != -2"}));
}

TEST(Schema, ListsNumbersNamesAndTypesButNoValues) {
  Sample fresh;
  Sample used;
  used.use();
  const std::string schema = state::schema(describe_of(fresh));
  EXPECT_EQ(schema, state::schema(describe_of(used)));
  EXPECT_TRUE(schema.starts_with("1 enabled bool\n2 ier u8\n3 offset i64\n4 mode u8\n5 counter u16[3]\n")) << schema;
  EXPECT_NE(schema.find("6 parts record[2]\nparts.1 base u32\nparts.2 step i16\n"), std::string::npos) << schema;
}

}  // namespace
}  // namespace doppel::test
