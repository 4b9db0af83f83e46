#include "engine/direct/space_map.h"

namespace doppel::engine::direct {

namespace {
/// Linux lets nobody map the pages below (vm.mmap_min_addr), and nothing beyond.
constexpr x86::LinearAddress kLowest = 65536, kEnd = (x86::LinearAddress{1} << 47) - memory::kPageSize;
/// The host's kernel keeps a list of what is mapped, with a limit of 65,530 pieces.
constexpr std::size_t kMostPages = 60'000;
}  // namespace

bool SpaceMap::mappable(x86::LinearAddress page) const {
  return page >= kLowest && page < kEnd && !process_.reserves(page);
}

bool SpaceMap::has(x86::LinearAddress page, bool writable) const {
  const auto found = pages_.find(page);
  return found != pages_.end() && (!writable || found->second.writable);
}

void SpaceMap::map(x86::LinearAddress first, std::uint64_t pages, std::uint64_t memory_page, bool writable) {
  if (pages_.size() + pages > kMostPages) drop_all();
  for (std::uint64_t i = 0; i < pages; ++i) {
    const x86::LinearAddress linear = first + (i << memory::kPageShift);
    const auto [at, added] = pages_.try_emplace(linear, Page{memory_page + i, writable});
    if (!added) {
      if (at->second.writable) forget_name(at->second.memory_page, linear);
      at->second = {memory_page + i, writable};
    }
    if (writable) writable_.emplace(memory_page + i, linear);
  }
  process_.map(first, pages << memory::kPageShift, memory_page << memory::kPageShift, writable);
}

void SpaceMap::forget_name(std::uint64_t memory_page, x86::LinearAddress linear) {
  const auto [begin, end] = writable_.equal_range(memory_page);
  for (auto name = begin; name != end; ++name) {
    if (name->second != linear) continue;
    writable_.erase(name);
    return;
  }
}

bool SpaceMap::forget(x86::LinearAddress page) {
  const auto found = pages_.find(page);
  if (found == pages_.end()) return false;
  if (found->second.writable) forget_name(found->second.memory_page, page);
  pages_.erase(found);
  return true;
}

void SpaceMap::drop(x86::LinearAddress first, std::uint64_t bytes) {
  // Nothing but what this map has put there may go.
  std::uint64_t run = 0;
  for (x86::LinearAddress page = first; page != first + bytes; page += memory::kPageSize) {
    if (forget(page)) {
      run += memory::kPageSize;
      continue;
    }
    if (run != 0) process_.unmap(page - run, run);
    run = 0;
  }
  if (run != 0) process_.unmap(first + bytes - run, run);
}

void SpaceMap::drop_writes(std::uint64_t memory_page) {
  const auto [begin, end] = writable_.equal_range(memory_page);
  for (auto name = begin; name != end; ++name) {
    pages_.erase(name->second);
    process_.unmap(name->second, memory::kPageSize);
  }
  writable_.erase(begin, end);
}

void SpaceMap::drop_all() {
  pages_.clear();
  writable_.clear();
  process_.unmap_all();
}

}  // namespace doppel::engine::direct
