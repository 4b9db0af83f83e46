#include "engine/dbt/views.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.h"

namespace doppel::engine::dbt {

namespace {

constexpr std::size_t kMaxLogged = 1 << 17;
constexpr std::size_t kMaxRegions = 16384;  // 64 MiB committed for one table

Error failed(const char* what) {
  return Error{std::string("the translator cannot ") + what + ": " + std::strerror(errno)};
}

}  // namespace

void DeltaTable::fill(x86::LinearAddress address, const std::byte* host_page, bool global) {
  const std::uint64_t index = index_of(address);
  if ((region_word(index) & region_bit(index)) == 0) {
    give_back_when_large();
    region_word(index) |= region_bit(index);
    ++committed_;
  }
  const std::uint64_t delta = delta_of(address, host_page);
  if (entries_[index] == delta) return;
  if (filled() >= kMaxLogged) flush_all();
  const x86::LinearAddress page = x86::Tlb::page_of(address);
  if (global) {
    log_global(page, host_page);
  } else {
    local_.push_back({page, host_page});
  }
  entries_[index] = delta;
}

/// A page that is dropped and filled again and again is in the log once.
void DeltaTable::log_global(x86::LinearAddress page, const std::byte* host_page) {
  const auto [first, last] = global_.equal_range(host_page);
  if (std::none_of(first, last, [page](const auto& known) { return known.second == page; }))
    global_.emplace(host_page, page);
}

void DeltaTable::give_back_when_large() {
  if (committed_ < kMaxRegions) return;
  madvise(entries_, kReserved, MADV_DONTNEED);
  committed_ = 0;
  global_.clear();
  local_.clear();
}

void DeltaTable::drop(x86::LinearAddress address) {
  const std::uint64_t index = index_of(address);
  // Not even a read commits anything where nothing was filled.
  if ((region_word(index) & region_bit(index)) != 0) entries_[index] = 0;
}

void DeltaTable::flush_all() {
  for (const auto& [host_page, page] : global_) entries_[index_of(page)] = 0;
  global_.clear();
  flush_non_global();
}

void DeltaTable::flush_non_global() {
  for (const Filled& filled : local_) entries_[index_of(filled.page)] = 0;
  local_.clear();
}

void DeltaTable::drop_host_page(const std::byte* host_page) {
  const auto drop = [&](x86::LinearAddress page) {
    std::uint64_t& entry = entries_[index_of(page)];
    if (entry == delta_of(page, host_page)) entry = 0;
  };
  const auto [first, last] = global_.equal_range(host_page);
  std::for_each(first, last, [&](const auto& known) { drop(known.second); });
  std::erase_if(local_, [&](const Filled& filled) {
    if (filled.host_page == host_page) drop(filled.page);
    return filled.host_page == host_page;
  });
}

Result<std::unique_ptr<Views>> Views::create() {
  std::unique_ptr<Views> views(new Views);
  void* reserved = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return failed("reserve 3 TiB of address space for a processor's tables");
  views->reserved_ = static_cast<std::byte*>(reserved);
  const UniqueFd file(memfd_create("doppel-env", MFD_CLOEXEC));
  if (file.get() < 0 || ftruncate(file.get(), static_cast<off_t>(kRegion)) != 0) return failed("make shared memory");

  std::byte* at = views->reserved_;
  for (std::size_t view = 0; view < x86::kViews; ++view) {
    if (mmap(at, kRegion, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.get(), 0) == MAP_FAILED)
      return failed("map its state");
    views->env_[view] = reinterpret_cast<Env*>(at + kRegion - 4096);
    if (view == 0) {
      auto* tables = reinterpret_cast<JumpTable::Entries*>(at);
      views->jumps_[0].attach(&tables[0]);
      views->jumps_[1].attach(&tables[1]);
    }
    at += kRegion;
    for (DeltaTable* table : {&views->reads_[view], &views->writes_[view]}) {
      if (mmap(at, DeltaTable::kReserved, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return failed("map a table of 512 GiB, of which it uses little");
      madvise(at, DeltaTable::kReserved, MADV_NOHUGEPAGE);
      table->attach(at);
      at += DeltaTable::kReserved;
    }
  }
  return views;
}

Views::~Views() {
  if (reserved_ != nullptr) munmap(reserved_, kReserved);
}

std::size_t Views::committed_bytes() const {
  std::size_t bytes = 2 * sizeof(JumpTable::Entries);
  for (const DeltaTable& table : reads_) bytes += table.committed_bytes();
  for (const DeltaTable& table : writes_) bytes += table.committed_bytes();
  return bytes;
}

void Views::flush_all() {
  for (DeltaTable& table : reads_) table.flush_all();
  for (DeltaTable& table : writes_) table.flush_all();
  for (JumpTable& table : jumps_) table.doubt_all();
}

void Views::flush_non_global() {
  for (DeltaTable& table : reads_) table.flush_non_global();
  for (DeltaTable& table : writes_) table.flush_non_global();
  for (JumpTable& table : jumps_) table.doubt_local();
}

void Views::flush_page(x86::LinearAddress address) {
  for (DeltaTable& table : reads_) table.drop(address);
  for (DeltaTable& table : writes_) table.drop(address);
  for (JumpTable& table : jumps_) table.flush_page(address);
}

void Views::drop_writes_to(const std::byte* host_page) {
  for (DeltaTable& table : writes_) table.drop_host_page(host_page);
}

}  // namespace doppel::engine::dbt
