#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "isa/canonical.h"
#include "isa/code_area.h"
#include "isa/thunk_emitter.h"

namespace doppel::isa {

/// The thunks of one machine, made when first asked for and kept: instructions that differ only in which registers and
/// addresses they name share one, so their number stays bounded. Any thread.
class ThunkCache {
 public:
  static Result<std::unique_ptr<ThunkCache>> create(const ThunkEnvironment& environment);

  /// What canonicalize() says of the instruction, or nullptr when it is not for the host. Valid for this object's life.
  const Canonical* canonical(const Insn& insn);

  /// Null when the code area is full.
  CoreThunk core(const Insn& insn);
  Handler handler(const Insn& insn, const ThunkRequest& request);

  /// Where all thunks are, for HostFaultGuard.
  std::span<const std::byte> executable() const { return area_.executable(); }

 private:
  ThunkCache(CodeArea area, const ThunkEnvironment& environment) : area_(std::move(area)), environment_(environment) {}

  /// What instructions that share a canonical form have in common.
  static std::string shape_of(const Insn& insn);
  struct Entry {
    bool valid = false;
    Canonical canonical;
    std::unordered_map<std::uint32_t, std::byte*> thunks;  ///< by ThunkRequest
  };
  Entry& entry(const Insn& insn);
  std::byte* thunk(const Insn& insn, const ThunkRequest& request);

  std::mutex mutex_;
  CodeArea area_;
  ThunkEnvironment environment_;
  std::unordered_map<std::string, std::unique_ptr<Entry>> entries_;
};

}  // namespace doppel::isa
