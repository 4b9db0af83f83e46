#include "snapshot/packed_layer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/system_error.h"
#include "memory/guest_memory.h"
#include "snapshot/zstd_stream.h"

namespace doppel::snapshot {
namespace {

using memory::kPageSize;

constexpr std::uint64_t kEnd = ~std::uint64_t{0};

/// Fills a file beside `path`, which takes the place of `other` when it is whole.
Result<void> replace(const std::string& path, const std::string& other, const std::function<Result<void>(int)>& fill) {
  std::string aside = path + ".XXXXXX";
  const UniqueFd fd(::mkostemp(aside.data(), O_CLOEXEC));
  if (!fd.valid()) return system_error("cannot create a file beside " + path);
  Result<void> done = fill(fd.get());
  if (done && (::fsync(fd.get()) != 0 || ::rename(aside.c_str(), path.c_str()) != 0)) {
    done = system_error("cannot write " + path);
  }
  if (done) {
    ::unlink(other.c_str());
  } else {
    ::unlink(aside.c_str());
  }
  return done;
}

Result<void> write_packed(int from, int to, std::span<const std::byte> sums, std::uint64_t pages,
                          const std::function<void(double)>& progress) {
  constexpr std::uint64_t kProgressStep = 4096;
  Compressor out(to);
  std::vector<std::byte> contents(kPageSize);
  const std::uint64_t listed = std::min<std::uint64_t>(pages, sums.size() / sizeof(std::uint32_t));
  for (std::uint64_t page = 0; page < listed; ++page) {
    if (page % kProgressStep == 0 && progress) progress(static_cast<double>(page) / static_cast<double>(listed));
    if (load_le<std::uint32_t>(&sums[page * sizeof(std::uint32_t)]) == 0) continue;
    const ssize_t got = ::pread(from, contents.data(), kPageSize, static_cast<off_t>(page * kPageSize));
    if (got != static_cast<ssize_t>(kPageSize)) return system_error("cannot read a layer of memory");
    if (std::ranges::all_of(contents, [](std::byte value) { return value == std::byte{0}; })) continue;
    if (Result<void> put = out.number(page); !put) return put;
    if (Result<void> put = out.put(contents); !put) return put;
  }
  if (Result<void> put = out.number(kEnd); !put) return put;
  return out.finish();
}

Result<void> read_packed(int from, int to, std::uint64_t memory_bytes) {
  Decompressor in(from);
  if (::ftruncate(to, static_cast<off_t>(memory_bytes)) != 0) return system_error("cannot write a layer of memory");
  std::vector<std::byte> contents(kPageSize);
  for (std::uint64_t next = 0;;) {
    const Result<std::uint64_t> page = in.number<std::uint64_t>();
    if (!page) return page.error();
    if (*page == kEnd) return in.finish();
    if (*page < next || *page >= memory_bytes / kPageSize) return Error{"its pages are in no order"};
    next = *page + 1;
    if (Result<void> got = in.get(contents); !got) return got;
    if (::pwrite(to, contents.data(), kPageSize, static_cast<off_t>(*page * kPageSize)) !=
        static_cast<ssize_t>(kPageSize)) {
      return system_error("cannot write a layer of memory");
    }
  }
}

}  // namespace

std::string packed_name(const std::string& path) {
  return path + ".zst";
}

Result<void> pack_layer(const std::string& path, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                        const std::function<void(double done)>& progress) {
  const Result<UniqueFd> ram = open_for_reading(path);
  if (!ram) return ram.error();
  return replace(packed_name(path), path,
                 [&](int to) { return write_packed(ram->get(), to, sums, memory_bytes / kPageSize, progress); });
}

Result<void> unpack_layer(const std::string& path, std::uint64_t memory_bytes) {
  const std::string packed = packed_name(path);
  if (::access(path.c_str(), F_OK) == 0 || ::access(packed.c_str(), F_OK) != 0) return {};
  const Result<UniqueFd> from = open_for_reading(packed);
  if (!from) return from.error();
  const Result<void> done = replace(path, packed, [&](int to) { return read_packed(from->get(), to, memory_bytes); });
  return done ? done : Error{packed + ": " + done.error().message};
}

}  // namespace doppel::snapshot
