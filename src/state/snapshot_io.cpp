#include "state/snapshot_io.h"

#include "state/loader.h"
#include "state/saver.h"

namespace doppel::state {

std::vector<std::byte> save(const DescribeFunction& describe) {
  Saver saver;
  describe(saver);
  return saver.take();
}

Result<void> load(std::span<const std::byte> bytes, const DescribeFunction& describe) {
  const std::vector<std::byte> before = save(describe);
  Loader loader(bytes);
  describe(loader);
  Result<void> result = loader.finish();
  if (result) {
    loader.run_actions();
    return result;
  }
  // Some fields may have been replaced already: put the old values back, whose derived state is still in force.
  Loader undo(before);
  describe(undo);
  return result;
}

}  // namespace doppel::state
