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
  ~ThunkCache();

  /// The thunks of one canonical instruction. Valid for the cache's life.
  class Family;
  /// The family that an instruction belongs to, or nullptr when it is not for the host.
  Family* find(const Insn& insn);
  static const Canonical& canonical(const Family& family);

  /// Null when the code area is full.
  CoreThunk core(Family& family);
  Handler handler(Family& family, const ThunkRequest& request);

  /// Where all thunks are, for HostFaultGuard.
  std::span<const std::byte> executable() const { return area_.executable(); }

 private:
  ThunkCache(CodeArea area, const ThunkEnvironment& environment);

  /// What instructions that share a canonical form have in common.
  static std::string shape_of(const Insn& insn);
  std::byte* thunk(Family& family, const ThunkRequest& request);

  std::mutex mutex_;
  CodeArea area_;
  ThunkEnvironment environment_;
  std::unordered_map<std::string, std::unique_ptr<Family>> families_;  ///< by shape
};

}  // namespace doppel::isa
