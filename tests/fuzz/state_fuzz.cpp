#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "state/sample.h"
#include "state/snapshot_io.h"

/// Loading any bytes either fails and changes nothing, or gives a state that saves and loads again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  doppel::test::Sample sample;
  sample.use();
  const auto describe = [&](doppel::state::Visitor& v) { sample.describe(v); };
  const auto before = doppel::state::save(describe);
  const auto loaded = doppel::state::load(std::as_bytes(std::span{data, size}), describe);
  const auto after = doppel::state::save(describe);
  if (!loaded && after != before) std::abort();
  if (loaded && (!doppel::state::load(after, describe) || doppel::state::save(describe) != after)) std::abort();
  return 0;
}
