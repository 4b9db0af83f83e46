#include "engine/dbt/perf_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>

#include "base/system_error.h"

namespace doppel::engine::dbt {

Result<std::unique_ptr<PerfMap>> PerfMap::create() {
  const std::string path = fmt::format("/tmp/perf-{}.map", ::getpid());
  ::unlink(path.c_str());
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return system_error("--perf-map: cannot create " + path);
  return std::unique_ptr<PerfMap>(new PerfMap(std::move(file)));
}

void PerfMap::add(std::span<const std::byte> code, const std::string& name) {
  const std::string line =
      fmt::format("{:x} {:x} {}\n", reinterpret_cast<std::uint64_t>(code.data()), code.size(), name);
  // A disk that is full costs names, not the machine.
  static_cast<void>(write_all(file_.get(), std::as_bytes(std::span{line})).ok());
}

}  // namespace doppel::engine::dbt
