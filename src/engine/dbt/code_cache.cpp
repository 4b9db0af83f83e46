#include "engine/dbt/code_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace doppel::engine::dbt {

namespace {
constexpr memory::GuestPhysical page_of(memory::GuestPhysical address) {
  return align_down(address, memory::kPageSize);
}
}  // namespace

Result<CodeCache> CodeCache::create(isa::CodeArea area) {
  // No site, mark or piece has less code of its own than that.
  constexpr std::size_t kLeastCode = 2;
  const std::size_t most = area.executable().size() / kLeastCode;
  Result<ReservedArray<Site>> sites = ReservedArray<Site>::create(most);
  Result<ReservedArray<Block::Mark>> marks = ReservedArray<Block::Mark>::create(most);
  Result<ReservedArray<Block::Inexact>> inexact = ReservedArray<Block::Inexact>::create(most);
  if (!sites) return sites.error();
  if (!marks) return marks.error();
  if (!inexact) return inexact.error();
  return CodeCache(std::move(area), std::move(*sites), std::move(*marks), std::move(*inexact));
}

const std::byte* CodeCache::add_permanent(std::span<const std::byte> code) {
  std::byte* at = area_.reserve(code.size());
  if (at != nullptr) area_.write(at, code);
  permanent_ = area_.used();
  return at;
}

std::byte* CodeCache::room() const {
  constexpr std::size_t kPieces = 8;  // of an instruction, at most
  const bool listed = sites_.has_room(kMaxSites) && marks_.has_room(kMaxInstructions + 1) &&
                      inexact_.has_room(kPieces * kMaxInstructions);
  return listed ? area_.peek(kMaxCode) : nullptr;
}

/// Where the key is, or would go.
std::size_t CodeCache::slot_of(std::uint64_t key) const {
  constexpr std::uint64_t kGoldenRatio = 0x9E37'79B9'7F4A'7C15;
  const std::size_t mask = table_.size() - 1;
  std::size_t slot = (key * kGoldenRatio) >> 32 & mask;
  while (table_[slot].block != nullptr && table_[slot].key != key) slot = (slot + 1) & mask;
  return slot;
}

void CodeCache::remember(Block* block) {
  if (2 * taken_ >= table_.size()) {
    const std::vector<Slot> old = std::exchange(table_, std::vector<Slot>(2 * table_.size()));
    for (const Slot& slot : old) {
      if (slot.block != nullptr) table_[slot_of(slot.key)] = slot;
    }
  }
  const std::uint64_t key = key_of(block->physical, block->mode);
  Slot& slot = table_[slot_of(key)];
  if (slot.block == nullptr) ++taken_;
  slot = {key, block};
}

Block* CodeCache::find(memory::GuestPhysical physical, std::uint32_t mode, x86::LinearAddress linear) const {
  Block* block = table_[slot_of(key_of(physical, mode))].block;
  if (block == nullptr || block == &dropped_) return nullptr;
  return !block->absolute || block->linear_page == x86::Tlb::page_of(linear) ? block : nullptr;
}

Block* CodeCache::add(std::unique_ptr<Block> block, const Parts& parts) {
  const bool fits = parts.code.size() <= kMaxCode && parts.sites.size() <= kMaxSites &&
                    marks_.has_room(parts.marks.size()) && inexact_.has_room(parts.inexact.size());
  std::byte* at = fits ? area_.reserve(parts.code.size()) : nullptr;
  if (at == nullptr) return nullptr;
  area_.write(at, parts.code);
  block->code = at;
  block->code_size = static_cast<std::uint32_t>(parts.code.size());
  Block* added = block.get();
  added->first_site = next_site();
  added->sites = static_cast<std::uint32_t>(parts.sites.size());
  for (Site& site : sites_.append(parts.sites)) site.block = added;
  added->marks = marks_.append(parts.marks);
  added->inexact = inexact_.append(parts.inexact);
  remember(added);
  by_page_[page_of(added->physical)].push_back(added);
  if (added->second_page != Block::kNone) by_page_[added->second_page].push_back(added);
  const auto number = static_cast<std::uint32_t>(blocks_.size());
  blocks_.push_back(std::move(block));
  ends_.push_back(static_cast<std::uint32_t>(at + parts.code.size() - executable().data()));
  while (granules_.size() * kGranule < ends_.back()) granules_.push_back(number);
  ++stats_.blocks;
  stats_.instructions += added->instructions;
  stats_.code_bytes += parts.code.size();
  return added;
}

void CodeCache::give_up(memory::GuestPhysical physical, std::uint32_t mode) {
  given_up_[key_of(physical, mode)] = page_of(physical);
}

void CodeCache::point_jump(const Site& site, const std::byte* to) {
  const std::byte* end = site.block->code + site.jump;
  const auto distance = static_cast<std::int32_t>(to - end);
  area_.write(const_cast<std::byte*>(end) - sizeof distance, std::as_bytes(std::span{&distance, 1}));
}

const Site& CodeCache::site_before(const std::byte* address) const {
  const Block& block = *block_at(address - 1);  // The call may be the last there is.
  const auto offset = static_cast<std::uint32_t>(address - block.code);
  return *std::ranges::find(sites_of(block), offset, &Site::called_from);
}

std::span<Block* const> CodeCache::blocks_in(memory::GuestPhysical page) const {
  const auto found = by_page_.find(page);
  return found == by_page_.end() ? std::span<Block* const>() : found->second;
}

CodeCache::Footprint CodeCache::footprint() const {
  // A block's incoming links, its places in tables, and what the allocator adds.
  constexpr std::size_t kLists = 2 * 16 + 32, kTypicalLinks = 2;
  const std::size_t per_block =
      sizeof(Block) + kLists + kTypicalLinks * sizeof(std::uint32_t) + 2 * sizeof(std::uintptr_t);
  const std::size_t metadata = blocks_.size() * per_block + sites_.size() * sizeof(Site) +
                               marks_.size() * sizeof(Block::Mark) + inexact_.size() * sizeof(Block::Inexact) +
                               table_.capacity() * sizeof(Slot);
  return {area_.used(), executable().size(), blocks_.size(), metadata};
}

void CodeCache::verify(const Block& block, std::uint64_t mappings) {
  rewrite(block.code + block.verified, mappings);
}

void CodeCache::rewrite(const std::byte* at, std::uint64_t value) {
  area_.write(const_cast<std::byte*>(at), std::as_bytes(std::span{&value, 1}));
}

void CodeCache::link(std::uint32_t number, Block* target) {
  point_jump(sites_[number], target->code);
  target->incoming.push_back(number);
  ++stats_.links;
  if (const x86::LinearAddress far = sites_[number].far_target; far != 0) {
    FarLinks& links = far_links_[x86::Tlb::page_of(far)];
    if (const memory::GuestPhysical physical = page_of(target->physical); links.physical != physical) {
      unlink(links);
      links = {physical, {}};
    }
    links.sites.push_back(number);
  }
}

void CodeCache::add_target(Block& block) {
  if (block.target || block.absolute || block.second_page != Block::kNone) return;
  block.target = true;
  targets_[page_of(block.physical)].push_back(
      {block.mode, static_cast<std::uint16_t>(block.page_offset()), block.code});
}

std::span<const CodeCache::Target> CodeCache::targets(memory::GuestPhysical page) const {
  const auto found = targets_.find(page);
  return found == targets_.end() ? std::span<const Target>{} : found->second;
}

void CodeCache::unlink(const FarLinks& links) {
  for (const std::uint32_t number : links.sites) unpoint(number);
}

void CodeCache::unlink_far_to(x86::LinearAddress address) {
  const auto found = far_links_.find(x86::Tlb::page_of(address));
  if (found == far_links_.end()) return;
  unlink(found->second);
  far_links_.erase(found);
}

std::vector<memory::GuestPhysical> CodeCache::drop_page(memory::GuestPhysical page) {
  std::erase_if(given_up_, [page](const auto& known) { return known.second == page; });
  const auto found = by_page_.find(page);
  if (found == by_page_.end()) return {};
  std::vector<memory::GuestPhysical> starts{page};
  for (Block* block : found->second) {
    if (const memory::GuestPhysical start = page_of(block->physical); start != page) starts.push_back(start);
    for (const std::uint32_t number : block->incoming) {
      const Site& site = sites_[number];
      point_jump(site, site.block->code + site.resume);
    }
    block->incoming.clear();
    Slot& slot = table_[slot_of(key_of(block->physical, block->mode))];
    if (slot.block == block) slot.block = &dropped_;
    ++stats_.dropped;
  }
  by_page_.erase(found);
  targets_.erase(page);
  return starts;
}

void CodeCache::flush() {
  blocks_.clear();
  ends_.clear();
  granules_.clear();
  sites_.clear();
  table_.assign(kInitialSlots, Slot{});
  taken_ = 0;
  by_page_.clear();
  targets_.clear();
  given_up_.clear();
  marks_.clear();
  inexact_.clear();
  far_links_.clear();
  area_.rewind(permanent_);
  ++stats_.flushes;
}

const Block* CodeCache::block_at(const std::byte* code) const {
  const auto offset = static_cast<std::uint64_t>(code - executable().data());
  if (offset / kGranule >= granules_.size()) return nullptr;
  std::size_t number = granules_[offset / kGranule];
  while (number < ends_.size() && ends_[number] <= offset) ++number;
  if (number == ends_.size()) return nullptr;
  const Block* block = blocks_[number].get();
  return code >= block->code ? block : nullptr;
}

}  // namespace doppel::engine::dbt
