#include "snapshot/ram_layers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bits.h"
#include "base/system_error.h"
#include "snapshot/checksum.h"

namespace doppel::snapshot {
namespace {

using memory::kPageShift;
using memory::kPageSize;

constexpr std::size_t kRunBytes = std::size_t{256} << 10;

/// 0 is taken: it says that there is no page.
std::uint32_t page_checksum(std::span<const std::byte> contents) {
  const std::uint32_t sum = crc32c(contents);
  return sum == 0 ? 1 : sum;
}

bool is_zero(std::span<const std::byte> contents) {
  return contents.front() == std::byte{0} && std::memcmp(contents.data(), &contents[1], contents.size() - 1) == 0;
}

Result<void> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return system_error("cannot write the snapshot's files");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

bool read_at(int fd, std::span<std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

std::uint32_t checksum_of(std::span<const std::byte> sums, std::uint64_t page) {
  const std::uint64_t offset = page * sizeof(std::uint32_t);
  return offset + sizeof(std::uint32_t) <= sums.size() ? load_le<std::uint32_t>(&sums[offset]) : 0;
}

}  // namespace

LayerWriter::LayerWriter(int ram, int sums, std::uint64_t memory_bytes, bool complete)
    : ram_(ram),
      sums_(sums),
      memory_bytes_(memory_bytes),
      complete_(complete),
      checksums_(memory_bytes >> kPageShift) {}

Result<void> LayerWriter::begin() {
  run_.reserve(kRunBytes);
  if (::ftruncate(ram_, static_cast<off_t>(memory_bytes_)) != 0) return system_error("cannot write the snapshot's RAM");
  return {};
}

Result<void> LayerWriter::flush() {
  if (run_.empty()) return {};
  Result<void> written = write_at(ram_, run_, run_start_ << kPageShift);
  stored_bytes_ += run_.size();
  run_.clear();
  return written;
}

Result<void> LayerWriter::page(std::uint64_t index, std::span<const std::byte> contents) {
  const bool zero = is_zero(contents);
  if (zero && complete_) return {};
  checksums_[index] = page_checksum(contents);
  if (zero) return {};  // a hole, which reads as zeros
  const bool follows = index == run_start_ + (run_.size() >> kPageShift);
  if (!follows || run_.size() == kRunBytes) {
    if (Result<void> written = flush(); !written) return written;
  }
  if (run_.empty()) run_start_ = index;
  run_.insert(run_.end(), contents.begin(), contents.end());
  return {};
}

Result<Manifest::File> LayerWriter::finish() {
  if (Result<void> written = flush(); !written) return written.error();
  const std::span<const std::byte> sums = std::as_bytes(std::span{checksums_});
  if (::ftruncate(sums_, static_cast<off_t>(sums.size())) != 0)
    return system_error("cannot write the snapshot's files");
  for (std::size_t offset = 0; offset < sums.size(); offset += kPageSize) {
    const auto part = sums.subspan(offset, std::min<std::size_t>(kPageSize, sums.size() - offset));
    if (is_zero(part)) continue;
    if (Result<void> written = write_at(sums_, part, offset); !written) return written.error();
  }
  return Manifest::File{sums.size(), crc32c(sums)};
}

void add_pieces(const std::shared_ptr<const UniqueFd>& ram, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                std::vector<machine::SavedMachine::RamPiece>& pieces) {
  const std::uint64_t pages = memory_bytes >> kPageShift;
  for (std::uint64_t page = 0; page < pages;) {
    if (checksum_of(sums, page) == 0) {
      ++page;
      continue;
    }
    std::uint64_t end = page + 1;
    while (end < pages && checksum_of(sums, end) != 0) ++end;
    pieces.push_back({ram, page << kPageShift, page, (end - page) << kPageShift});
    page = end;
  }
}

Result<bool> read_page(const std::vector<OpenLayer>& layers, std::uint64_t page, std::span<std::byte> contents) {
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    const std::uint32_t expected = checksum_of(layer->sums, page);
    if (expected == 0) continue;
    if (!read_at(layer->ram->get(), contents, page << kPageShift))
      return system_error("cannot read the snapshot's RAM");
    if (page_checksum(contents) != expected) {
      return Error{fmt::format("the snapshot's page at {:#x} is damaged", page << kPageShift)};
    }
    return !is_zero(contents);
  }
  return false;
}

Result<void> verify_layer(int ram, std::span<const std::byte> sums, std::uint64_t memory_bytes,
                          const std::function<void(double)>& progress) {
  const std::uint64_t pages = memory_bytes >> kPageShift;
  constexpr std::uint64_t kProgressStep = 4096;
  std::vector<std::byte> contents(kPageSize);
  for (std::uint64_t page = 0; page < pages; ++page) {
    if (page % kProgressStep == 0 && progress) progress(static_cast<double>(page) / static_cast<double>(pages));
    const std::uint32_t expected = checksum_of(sums, page);
    if (expected == 0) continue;
    if (!read_at(ram, contents, page << kPageShift)) return system_error("cannot read it");
    if (page_checksum(contents) != expected)
      return Error{fmt::format("the page at {:#x} is damaged", page << kPageShift)};
  }
  return {};
}

}  // namespace doppel::snapshot
