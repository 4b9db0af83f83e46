#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "bus/device.h"
#include "state/snapshot_io.h"

/// What every component with described state owes (DESIGN section 2). Each test program includes this and applies it.
namespace doppel::test {

template <class T>
state::DescribeFunction describe_of(T& component) {
  return [&component](state::Visitor& visitor) { component.describe(visitor); };
}

/// Damaged saves neither crash nor half-load: either they are valid state, or an error leaves everything as it was.
template <class T>
void expect_survives_damage(T& component, const std::vector<std::byte>& saved) {
  const auto describe = describe_of(component);
  const auto try_load = [&](const std::vector<std::byte>& bytes) {
    const std::vector<std::byte> before = state::save(describe);
    const bool loaded = state::load(bytes, describe).ok();
    if (!loaded) {
      ASSERT_EQ(state::save(describe), before) << "a failed load has changed the state";
    }
  };
  const std::size_t step = std::max<std::size_t>(1, saved.size() / 1000);
  for (std::size_t i = 0; i < saved.size(); i += step) {
    try_load({saved.begin(), saved.begin() + static_cast<std::ptrdiff_t>(i)});
    std::vector<std::byte> flipped = saved;
    flipped[i] ^= static_cast<std::byte>(1U << (i % 8));
    try_load(flipped);
    flipped[i] = std::byte{0xFF};
    try_load(flipped);
  }
}

/// The contract: a fresh component equals one after a cold reset; `use` changes its state; reset undoes that; and
/// save -> reset -> load -> save gives the same bytes (which also shows that no field number is described twice).
template <class T>
void expect_contract(T& fresh, const std::function<void()>& cold_reset, const std::function<void()>& use) {
  const auto describe = describe_of(fresh);
  const std::vector<std::byte> initial = state::save(describe);
  cold_reset();
  EXPECT_EQ(state::save(describe), initial) << "a fresh component differs from one after a cold reset";

  use();
  const std::vector<std::byte> used = state::save(describe);
  EXPECT_NE(used, initial) << "`use` has changed nothing, so this test would prove nothing";

  cold_reset();
  EXPECT_EQ(state::save(describe), initial) << "cold reset misses a field";

  const Result<void> loaded = state::load(used, describe);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(state::save(describe), used) << "not all of the state came back";

  expect_survives_damage(fresh, used);
  const Result<void> again = state::load(used, describe);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(state::save(describe), used) << "not all of the state came back after damaged loads";
}

/// For devices: `use` drives the device's registers.
template <class D>
requires std::derived_from<D, bus::Device>
void expect_contract(D& fresh, const std::function<void()>& use) {
  expect_contract(
      fresh, [&fresh] { fresh.reset(bus::ResetKind::Cold); }, use);
}

/// Compares the schema with tests/state/golden/<name>.schema. A difference means that saved states of older versions
/// may no longer load: numbers are never reused, types never changed. DOPPEL_UPDATE_GOLDEN=1 accepts the schema as it
/// is now.
inline void expect_schema(std::string_view name, const state::DescribeFunction& describe) {
  const std::string path = std::string(DOPPEL_GOLDEN_DIR "/") + std::string(name) + ".schema";
  const std::string schema = state::schema(describe);
  if (std::getenv("DOPPEL_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << schema;
    return;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file) << "there is no " << path << " yet: run this test with DOPPEL_UPDATE_GOLDEN=1 and commit the file";
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(golden.str(), schema) << "the schema has changed; if old saved states still load, accept it with "
                                     "DOPPEL_UPDATE_GOLDEN=1";
}

template <state::Describable T>
void expect_schema(std::string_view name, T& component) {
  expect_schema(name, describe_of(component));
}

}  // namespace doppel::test
