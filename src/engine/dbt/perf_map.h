#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::engine::dbt {

/// /tmp/perf-PID.map, by which `perf report` names what it finds in the code caches of this process. A block stays in
/// there when it is dropped: where code has been made anew, the last line counts. Any thread.
class PerfMap {
 public:
  static Result<std::unique_ptr<PerfMap>> create();

  void add(std::span<const std::byte> code, const std::string& name);

 private:
  explicit PerfMap(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;
};

}  // namespace doppel::engine::dbt
