#include "engine/direct/code_pages.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace doppel::engine::direct {

using dbt::Block;
using dbt::Site;
using memory::GuestPhysical;
using x86::LinearAddress;

namespace {

std::uint16_t offset_of(std::uint64_t address) {
  return static_cast<std::uint16_t>(address & (memory::kPageSize - 1));
}
GuestPhysical page_address(GuestPhysical address) {
  return align_down(address, memory::kPageSize);
}
LinearAddress instruction_of(const CodePages::Page& crossing) {
  return crossing.linear + offset_of(crossing.physical);
}
/// From the beginning of the block's page.
std::uint64_t distance_of(const Site& site) {
  return site.far_target != 0 ? site.far_target : site.target;
}

}  // namespace

// --- Look-up ---

CodePages::Page* CodePages::at(LinearAddress linear_page) const {
  const auto found = in_force_.find(linear_page);
  return found == in_force_.end() ? nullptr : found->second;
}

bool CodePages::has(GuestPhysical physical, std::uint32_t mode, LinearAddress linear_page) const {
  const auto found = pages_.find(key_of(physical, mode));
  return found != pages_.end() && found->second->linear == linear_page && !found->second->blocks.empty();
}

CodePages::Place CodePages::place_of(LinearAddress rip) const {
  Page* page = at(x86::Tlb::page_of(rip));
  if (page == nullptr) return {};
  if (const std::byte* code = code_at(*page, offset_of(rip))) return {page, code};
  const auto crossing = crossings_in_force_.find(rip);
  if (crossing == crossings_in_force_.end()) return {};
  return {crossing->second, code_at(*crossing->second, offset_of(rip))};
}

const std::byte* CodePages::code_at(const Page& page, std::uint16_t offset) {
  if (!page.starts.test(offset)) return nullptr;
  // Where bytes are read in two ways, blocks overlap.
  auto after = std::ranges::upper_bound(
      page.blocks, offset, {}, [](const Block* block) { return static_cast<std::uint16_t>(block->page_offset()); });
  while (after != page.blocks.begin()) {
    const Block& block = **--after;
    if (offset >= block.page_offset() + block.bytes) continue;
    const auto mark = std::ranges::upper_bound(block.marks, offset, {}, &Block::Mark::page_offset);
    // The last of several: in front of it, a register may have to be given back.
    if (mark != block.marks.begin() && std::prev(mark)->page_offset == offset)
      return block.code + std::prev(mark)->code_offset;
  }
  return nullptr;
}

// --- Pages ---

CodePages::Page& CodePages::page_of(GuestPhysical physical, std::uint32_t mode) {
  std::unique_ptr<Page>& page = pages_[key_of(physical, mode)];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    page->physical = physical;
    page->mode = mode;
    by_physical_[page_address(physical)].push_back(page.get());
  }
  return *page;
}

CodePages::Page& CodePages::put_in_force(GuestPhysical physical, std::uint32_t mode, LinearAddress linear_page) {
  Page& page = page_of(physical, mode);
  enforce(page, linear_page);
  for (Page* crossing : page.crossings) {
    if (mmu_.leads_to(linear_page + memory::kPageSize, crossing->second, x86::Access::Execute, x86::View::User))
      enforce(*crossing, linear_page);
  }
  return page;
}

CodePages::Page& CodePages::put_crossing_in_force(GuestPhysical instruction, GuestPhysical second, std::uint32_t mode,
                                                  LinearAddress linear_page) {
  Page& page = page_of(instruction, mode);
  if (page.second != second) {
    clear(page);
    page.second = second;
    std::vector<Page*>& of_second = by_physical_[second];
    if (std::ranges::find(of_second, &page) == of_second.end()) of_second.push_back(&page);
    Page& whole = page_of(page_address(instruction), mode);
    if (std::ranges::find(whole.crossings, &page) == whole.crossings.end()) whole.crossings.push_back(&page);
  }
  enforce(page, linear_page);
  return page;
}

void CodePages::add(Page& page, Block& block, std::span<const Copier::Literal> literals) {
  const auto place = std::ranges::upper_bound(page.blocks, block.page_offset(), {}, &Block::page_offset);
  page.blocks.insert(place, &block);
  const auto first = static_cast<std::uint16_t>(block.page_offset());
  for (const Block::Mark& mark : block.marks) {
    if (mark.page_offset < first + block.bytes) page.starts.set(mark.page_offset);
  }
  for (const Copier::Literal& literal : literals) page.literals.push_back({block.code + literal.at, literal.offset});
}

void CodePages::add_target(LinearAddress rip) {
  const Place place = place_of(rip);
  if (place.code == nullptr) return;
  const Target target{offset_of(rip), place.code};
  std::vector<Target>& targets = place.page->targets;
  if (std::ranges::find(targets, target.offset, &Target::offset) == targets.end()) targets.push_back(target);
  put_targets(*place.page, std::span{&target, 1});
}

void CodePages::add_targets(Page& page, std::span<const Target> targets) {
  page.targets.insert(page.targets.end(), targets.begin(), targets.end());
  if (page.in_force) put_targets(page, targets);
}

/// One of them where it belongs, the others where there is room.
void CodePages::put_targets(const Page& page, std::span<const Target> targets) {
  if (targets.empty()) return;
  const Target& first = targets.front();
  jumps_.put(page.linear + first.offset, first.code, page_address(page.physical), false);
  for (const Target& target : targets.subspan(1)) jumps_.put_beside(page.linear + target.offset, target.code);
}

// --- In force or not ---

/// Whether a page is where its code is written for, in the present address space.
bool CodePages::still(const Page& page) const {
  const auto leads = [this](LinearAddress linear, GuestPhysical physical) {
    return mmu_.leads_to(linear, physical, x86::Access::Execute, x86::View::User);
  };
  return leads(page.linear, page_address(page.physical)) &&
         (page.second == Block::kNone || leads(page.linear + memory::kPageSize, page.second));
}

void CodePages::enforce(Page& page, LinearAddress linear_page) {
  if (page.in_force && page.linear == linear_page) return;
  withdraw(page);
  if (page.linear != linear_page) {
    page.linear = linear_page;
    for (Block* block : page.blocks) block->linear_page = linear_page;
    for (const Literal& literal : page.literals)
      cache_.rewrite(literal.at, linear_page + static_cast<std::uint64_t>(std::int64_t{literal.offset}));
  }
  const bool crosses = page.second != Block::kNone;
  auto& in_force = crosses ? crossings_in_force_ : in_force_;
  const LinearAddress key = crosses ? instruction_of(page) : linear_page;
  if (const auto other = in_force.find(key); other != in_force.end()) withdraw(*other->second);
  in_force[key] = &page;
  page.in_force = true;
  for (std::vector<Link*>* links : {&page.in, &page.out}) {
    std::erase_if(*links, [](const Link* link) { return link->to == nullptr; });
    for (Link* link : *links) settle(*link);
  }
  put_targets(page, page.targets);
}

void CodePages::withdraw(Page& page) {
  if (!std::exchange(page.in_force, false)) return;
  for (Link* link : page.in) set(*link, false);
  if (page.second == Block::kNone) {
    in_force_.erase(page.linear);
    for (Page* crossing : page.crossings) withdraw(*crossing);
    jumps_.flush_page(page.linear);
    return;
  }
  crossings_in_force_.erase(instruction_of(page));
  if (page.targets.empty()) return;
  jumps_.flush_page(page.linear);
  if (const Page* whole = at(page.linear)) put_targets(*whole, whole->targets);
}

void CodePages::flushed_page(LinearAddress linear_page) {
  if (Page* page = at(linear_page)) withdraw(*page);
  if (const Page* before = at(linear_page - memory::kPageSize)) {
    for (Page* crossing : before->crossings) withdraw(*crossing);
  }
}

void CodePages::revalidate() {
  std::vector<Page*> moved;
  for (const auto* in_force : {&in_force_, &crossings_in_force_}) {
    for (const auto& [linear, page] : *in_force) {
      if (!still(*page)) moved.push_back(page);
    }
  }
  for (Page* page : moved) withdraw(*page);
}

void CodePages::withdraw_all() {
  for (auto* in_force : {&in_force_, &crossings_in_force_}) {
    while (!in_force->empty()) withdraw(*in_force->begin()->second);
  }
}

// --- Links ---

void CodePages::set(Link& link, bool on) {
  if (link.on == on) return;
  link.on = on;
  if (on) {
    cache_.point(link.site, link.code);
  } else {
    cache_.unpoint(link.site);
  }
}

/// Both ends are asked, since a page may have moved while the other was not in force.
void CodePages::settle(Link& link) {
  if (link.to == nullptr) return;
  const LinearAddress target = link.from->linear + static_cast<std::uint64_t>(link.distance);
  set(link, link.to->in_force && target == link.to->linear + link.offset);
}

bool CodePages::link(std::uint32_t number) {
  const Site& site = cache_.site(number);
  const Block& block = *site.block;
  const std::uint64_t distance = distance_of(site);
  const LinearAddress target = block.linear_page + distance;
  const auto [page, code] = place_of(target);
  if (code == nullptr) return false;
  const bool crosses = block.second_page != Block::kNone;
  Page& from = page_of(crosses ? block.physical : page_address(block.physical), block.mode);
  if (&from == page) {
    cache_.point(number, code);
    return true;
  }
  const std::uint16_t offset = offset_of(target);
  // It may have led elsewhere when one of the pages was mapped elsewhere.
  for (Link* known : from.out) {
    if (known->site != number) continue;
    set(*known, false);
    if (known->to == page && known->offset == offset) {
      settle(*known);
      return true;
    }
  }
  Link& link = links_.emplace_back(Link{number, offset, false, static_cast<std::int64_t>(distance), &from, page, code});
  from.out.push_back(&link);
  page->in.push_back(&link);
  settle(link);
  return true;
}

void CodePages::link_all(Page& page, std::uint32_t first, std::uint32_t end) {
  for (std::uint32_t number = first; number < end; ++number) {
    const Site& site = cache_.site(number);
    if (site.jump == 0) continue;
    const std::byte* code = site.far_target == 0 ? code_at(page, site.target) : nullptr;
    if (code != nullptr) {
      cache_.point(number, code);
    } else {
      link(number);
    }
  }
}

// --- The end of code ---

void CodePages::clear(Page& page) {
  withdraw(page);
  for (Link* link : page.in) {
    set(*link, false);
    link->to = nullptr;
  }
  for (Link* link : page.out) link->to = nullptr;
  page.in.clear();
  page.out.clear();
  page.starts.reset();
  page.blocks.clear();
  page.literals.clear();
  page.targets.clear();
}

bool CodePages::drop(GuestPhysical physical) {
  cache_.drop_page(physical);
  const auto found = by_physical_.find(physical);
  if (found == by_physical_.end()) return false;
  bool in_force = false;
  for (Page* page : found->second) {
    in_force = in_force || (page->in_force && !page->blocks.empty());
    clear(*page);
  }
  return in_force;
}

void CodePages::flush() {
  cache_.flush();
  jumps_.flush_all();
  pages_.clear();
  by_physical_.clear();
  in_force_.clear();
  crossings_in_force_.clear();
  links_.clear();
}

}  // namespace doppel::engine::direct
