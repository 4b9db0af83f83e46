#include "state/snapshot_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bits.h"
#include "state/contract.h"
#include "state/format.h"
#include "state/sample.h"

namespace doppel::test {
namespace {

using state::format::Kind;
using testing::HasSubstr;

/// One field as bytes, written by hand from format.h's description.
std::vector<std::byte> field(std::uint32_t number, std::uint8_t kind, const std::vector<std::uint8_t>& payload) {
  std::vector<std::byte> bytes(9 + payload.size());
  store_le(bytes.data(), number);
  store_le(&bytes[4], kind);
  store_le(&bytes[5], static_cast<std::uint32_t>(payload.size()));
  for (std::size_t i = 0; i < payload.size(); ++i) bytes[9 + i] = static_cast<std::byte>(payload[i]);
  return bytes;
}

std::vector<std::byte> operator+(std::vector<std::byte> left, const std::vector<std::byte>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

constexpr std::uint8_t kBool = 0, kU8 = 1, kU16 = 2, kRecord = 19;

std::string load_error(Sample& sample, const std::vector<std::byte>& bytes) {
  const Result<void> result = state::load(bytes, describe_of(sample));
  return result ? "loaded" : result.error().message;
}

TEST(Contract, HoldsForTheSample) {
  Sample sample;
  expect_contract(
      sample, [&] { sample.reset(); }, [&] { sample.use(); });
}

TEST(Contract, SchemaOfTheSample) {
  Sample sample;
  expect_schema("sample", sample);
}

TEST(Save, WritesNumberKindLengthPayload) {
  const auto saved = state::save([](state::Visitor& v) {
    std::uint16_t value = 0x1234;
    v.field(7, "value", value);
  });
  EXPECT_EQ(saved, field(7, kU16, {0x34, 0x12}));
}

TEST(Save, NestsRecords) {
  Sample::Part part;
  const auto saved = state::save([&](state::Visitor& v) { v.field(3, "part", part); });
  const auto inner = field(1, static_cast<std::uint8_t>(state::ScalarType::U32), {1, 0, 0, 0}) +
                     field(2, static_cast<std::uint8_t>(state::ScalarType::I16), {0xFE, 0xFF});
  std::vector<std::uint8_t> payload;
  payload.reserve(inner.size());
  for (const std::byte byte : inner) payload.push_back(static_cast<std::uint8_t>(byte));
  EXPECT_EQ(saved, field(3, kRecord, payload));
}

TEST(Load, RunsOnLoadedOnceAfterSuccess) {
  Sample sample;
  const auto saved = state::save(describe_of(sample));
  ASSERT_TRUE(state::load(saved, describe_of(sample)));
  EXPECT_EQ(sample.loaded, 1);
}

TEST(Load, AbsentFieldsKeepTheirValue) {
  Sample sample;
  sample.use();
  EXPECT_EQ(load_error(sample, field(2, kU8, {9})), "loaded");
  EXPECT_EQ(sample.ier, 9);
  EXPECT_TRUE(sample.enabled);
  EXPECT_EQ(sample.label, "caf\xC3\xA9\n");
  EXPECT_EQ(sample.fifo.size(), 4U);
}

TEST(Load, OrderOfTheBytesDoesNotMatter) {
  Sample sample;
  EXPECT_EQ(load_error(sample, field(2, kU8, {9}) + field(1, kBool, {1})), "loaded");
  EXPECT_EQ(sample.ier, 9);
  EXPECT_TRUE(sample.enabled);
}

TEST(Load, SignExtendsSignedFields) {
  Sample sample;
  EXPECT_EQ(load_error(sample, field(7, kRecord, {2, 0, 0, 0, 6, 2, 0, 0, 0, 0x00, 0x80})), "loaded");
  EXPECT_EQ(sample.part.step, INT16_MIN);
}

TEST(Load, RefusesAndUndoes) {
  struct Case {
    std::string error;
    std::vector<std::byte> bytes;
  };
  const std::vector<Case> cases{
      {"ends inside a field's header", {std::byte{1}, std::byte{0}}},
      {"longer than what is left", {std::byte{1}, {}, {}, {}, {}, std::byte{200}, {}, {}, {}, std::byte{1}}},
      {"longer than what is left",
       {std::byte{1}, {}, {}, {}, {}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}}},
      {"field 2 is there twice", field(2, kU8, {9}) + field(2, kU8, {8})},
      {"field 8 is unknown", field(2, kU8, {9}) + field(8, kU8, {8})},
      {"at ier: field 2 has another type", field(2, kU16, {9, 0})},
      {"at ier: 2 bytes instead of 1", field(2, kU8, {9, 9})},
      {"at enabled: 2 is neither true nor false", field(1, kBool, {2})},
      {"no such mode", field(2, kU8, {9}) + field(4, kU8, {2})},
      {"at fixed: 3 bytes instead of 4", field(9, static_cast<std::uint8_t>(Kind::Bytes), {1, 2, 3})},
      {"queue is longer", field(12, static_cast<std::uint8_t>(Kind::Blob), {1, 0, 2, 0, 3, 0, 4, 0, 5, 0})},
      {"queue is longer", field(12, static_cast<std::uint8_t>(Kind::Blob), {1, 0, 2})},
      {"at part: it ends inside", field(7, kRecord, {1, 0})},
      {"at parts: field 3 is unknown", field(6, kRecord, {3, 0, 0, 0, 1, 0, 0, 0, 0})},
  };
  for (const Case& c : cases) {
    Sample sample;
    sample.ier = 3;
    const auto before = state::save(describe_of(sample));
    EXPECT_THAT(load_error(sample, c.bytes), HasSubstr(c.error));
    EXPECT_EQ(state::save(describe_of(sample)), before) << c.error;
    EXPECT_EQ(sample.loaded, 0) << c.error;
  }
}

TEST(Load, DepthOfTheBytesIsNotFollowed) {
  // 100,000 records in one another where the component has a flat record.
  std::vector<std::byte> bytes;
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::byte> outer(9);
    store_le(outer.data(), std::uint32_t{7});
    store_le(&outer[4], kRecord);
    store_le(&outer[5], static_cast<std::uint32_t>((100'000 - 1 - i) * 9));
    bytes.insert(bytes.end(), outer.begin(), outer.end());
  }
  Sample sample;
  EXPECT_THAT(load_error(sample, bytes), HasSubstr("at part: field 7 is unknown"));
}

TEST(Load, AFieldDescribedTwiceIsAnError) {
  std::uint8_t value = 1;
  const auto describe = [&](state::Visitor& v) {
    v.field(1, "first", value);
    v.field(1, "second", value);
  };
  EXPECT_FALSE(state::load(state::save(describe), describe));
  EXPECT_FALSE(state::load(field(1, kU8, {5}), describe));
}

}  // namespace
}  // namespace doppel::test
