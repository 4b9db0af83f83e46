#include <cstring>

#include "engine/dbt/emitter.h"

/// Counting what is executed: all up to the next branch at once, before it.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;

/// Adds a number to a counter, and returns where it is in the code: it is not known yet.
std::size_t Emitter::add_to(std::int32_t counter) {
  constexpr std::int32_t kFourBytes = 0x1000;
  a_.mov(host::rcx, env(counter));
  a_.lea(host::rcx, host::ptr(host::rcx, kFourBytes));
  const std::size_t at = a_.offset() - sizeof kFourBytes;
  a_.mov(env(counter), host::rcx);
  return at;
}

void Emitter::begin_count() {
  end_count();
  keep_islands_in_reach();
  kept_ = AccessGroups::kNone;
  count_ = {add_to(DOPPEL_ENV(counted_instructions)), add_to(DOPPEL_ENV(counted_lookups)), index_, lookups_};
}

void Emitter::end_count() {
  if (count_.instructions_at == 0) return;
  const auto put = [this](std::size_t at, std::size_t number) {
    const auto value = static_cast<std::uint32_t>(number);
    std::memcpy(a_.bufferData() + at, &value, sizeof value);
  };
  put(count_.instructions_at, index_ - count_.first_index);
  put(count_.lookups_at, lookups_ - count_.first_lookup);
  count_ = {};
}

}  // namespace doppel::engine::dbt
