#include "engine/direct/executor.h"

#include <x86intrin.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "engine/direct/gs.h"
#include "engine/direct/guest_state.h"

namespace doppel::engine::direct {

using dbt::Block;
using dbt::Site;
using interp::Mode;
using x86::Access;
using x86::LinearAddress;
using x86::View;

namespace {

/// What blocks depend on, of interp::Mode's bits and beside them.
constexpr std::uint32_t kNumericError = 1 << 12;

constexpr unsigned kLargeShift = 21;
constexpr std::uint64_t kLargePage = std::uint64_t{1} << kLargeShift;
constexpr std::size_t kMostLarge = 4096;

std::uint64_t page_offset(LinearAddress address) {
  return address & (memory::kPageSize - 1);
}

}  // namespace

Executor::Executor(x86::Cpu& cpu, const isa::Decoder& decoder, dbt::CodeWriters& writers, dbt::CodeWriters::Peer& self,
                   std::unique_ptr<Process> process, Preference preference, CpuPlaces& places)
    : cpu_(cpu),
      writers_(writers),
      self_(self),
      process_(std::move(process)),
      translator_(decoder, process_->cache(), process_->stub()),
      map_(*process_),
      pages_(process_->cache(), jumps_, cpu.mmu),
      preference_(preference),
      pin_(places) {
  jumps_.attach(&process_->jumps());
}

Executor::~Executor() {
  cpu_.ports.attention.set_kicker(nullptr);
}

bool Executor::wanted(std::uint64_t returns) {
  if (lost_ || cpu_.ports.memory.shared_fd() < 0) return false;
  if (preference_.ask(space(), returns)) return true;
  if (preference_.sighted() && ready()) {
    preference_.prefer(space());
    return true;
  }
  pin_.release();
  return false;
}

/// Whether the program is at code that has been made for this address before.
bool Executor::ready() const {
  memory::GuestPhysical page = 0;
  return settled(cpu_.state.rip, Access::Execute, page) &&
         pages_.has(page, code_mode(), x86::Tlb::page_of(cpu_.state.rip));
}

/// What code depends on beside the instructions.
std::uint32_t Executor::code_mode() const {
  return mode_.key | ((cpu_.state.cr0 & x86::cr0::kNe) != 0 ? kNumericError : 0);
}

// --- Told by others ---

void Executor::flushed_page(LinearAddress address) {
  if (any_huge_) return flushed_non_global();
  const bool large = large_.contains(align_down(address, kLargePage));
  const std::uint64_t bytes = large ? kLargePage : memory::kPageSize;
  const LinearAddress first = align_down(address, bytes);
  map_.drop(first, bytes);
  for (LinearAddress page = first; page != first + bytes; page += memory::kPageSize) pages_.flushed_page(page);
}

/// A page of the guest's that this address is in has been met.
void Executor::note_size(LinearAddress address, unsigned page_shift) {
  if (page_shift == memory::kPageShift) return;
  if (large_.size() == kMostLarge) {
    map_.drop_all();
    pages_.withdraw_all();
    large_.clear();
  }
  large_.insert(align_down(address, kLargePage));
  any_huge_ = any_huge_ || page_shift > kLargeShift;
}

void Executor::drop_code(memory::GuestPhysical page) {
  if (pages_.drop(page)) ++spent_.rewritten;
}

void Executor::drop_writes(memory::GuestPhysical page) {
  map_.drop_writes(cpu_.ports.memory.page_index(page));
}

// --- Running ---

Executor::Next Executor::run(Mode mode) {
  const Preference::Clock::time_point begun = Preference::Clock::now();
  ++stats_.entries;
  if (mode_.key != mode.key) {
    pages_.withdraw_all();
    mode_ = mode;
  }
  prepare();
  if (const auto faulted = std::exchange(faulted_, std::nullopt)) {
    // Memory that is written to for the first time mostly has no neighbours yet.
    if (faulted->access == Access::Write) {
      map_pages(faulted->page, memory::kPageSize);
    } else {
      map_around(faulted->page);
    }
  }
  if (const std::optional<int> cpu = pin_.settle(begun)) process_->move_to(*cpu);
  put_state(cpu_.state, process_->shared());
  next_ = Next::LookAround;
  const std::byte* code = code_at(cpu_.state.rip);
  while (code != nullptr && pass_turn(code)) code = handed_back();
  take_state(process_->shared(), cpu_.state);
  spent_.time = Preference::Clock::now() - begun;
  preference_.ran(space_, std::exchange(spent_, {}));
  return next_;
}

/// Takes over what has changed in the guest's page tables since the last time.
void Executor::prepare() {
  const bool another = space_ != space();
  space_ = space();
  const Flushed flushed = std::exchange(flushed_, Flushed::Nothing);
  if (!another && flushed == Flushed::Nothing) return;
  if (another) ++stats_.spaces;
  if (another || flushed == Flushed::All) {
    map_.drop_all();
  } else {
    map_.revalidate([this](LinearAddress linear, std::uint64_t memory_page, bool writable) {
      memory::GuestPhysical page = 0;
      return settled(linear, writable ? Access::Write : Access::Read, page) &&
             page == cpu_.ports.memory.page_address(memory_page);
    });
  }
  pages_.revalidate();
}

/// The process runs from `code` on, with the state in Shared. False when something waits for the vCPU before that.
bool Executor::pass_turn(const std::byte* code) {
  x86::Attention& attention = cpu_.ports.attention;
  process_->forget_kicks();
  attention.set_kicker(process_.get());
  if (attention.any()) {
    attention.set_kicker(nullptr);
    next_ = Next::LookAround;
    return false;
  }
  settle_xsave(process_->shared().xsave);
  ++stats_.hand_overs;
  const Preference::Clock::time_point begun = Preference::Clock::now();
  const std::uint64_t first = __rdtsc();
  const Result<void> ran = process_->run(code);
  spent_.computed += share(Preference::Clock::now() - begun, __rdtsc() - first);
  attention.set_kicker(nullptr);
  if (!ran) lose(ran.error().message);
  return !lost_;
}

/// What of a turn, that has taken so many cycles, was not spent on passing it.
Preference::Clock::duration Executor::share(Preference::Clock::duration turn, std::uint64_t cycles) const {
  const Shared& shared = process_->shared();
  // The guest may have written there whatever it likes.
  const std::uint64_t inside = shared.ended > shared.began ? std::min(shared.ended - shared.began, cycles) : 0;
  return std::chrono::duration_cast<Preference::Clock::duration>(
      turn * (static_cast<double>(inside) / static_cast<double>(std::max(cycles, std::uint64_t{1}))));
}

/// Where to go on, or null, with `next_`. RIP is always where the guest is.
const std::byte* Executor::handed_back() {
  Shared& shared = process_->shared();
  switch (shared.reason) {
    case Reason::Exit:
      return left_at_site(shared.site);
    case Reason::Signal:
      return interrupted();
    case Reason::Kicked:
      ++stats_.kicks;
      return stop(Next::LookAround);
    case Reason::CommandFailed:
      // The host's limit of mappings, most likely.
      map_.drop_all();
      return stop(Next::Interpret);
    default:
      return lose("the process that runs guest code does not say why it stops");
  }
}

const std::byte* Executor::left_at_site(std::uint32_t number) {
  dbt::CodeCache& cache = process_->cache();
  if (number >= cache.next_site()) return lose("guest code has been left where it cannot be");
  const Site site = cache.site(number);
  if (site.jump == 0) {
    ++stats_.interpreted;
    jumped_ = site.indirect;
    cpu_.state.rip = site.block->linear_page + site.page_offset;
    return stop(Next::Interpret);
  }
  ++stats_.chains;
  cpu_.state.rip = site.block->linear_page + (site.far_target != 0 ? site.far_target : site.target);
  const std::uint64_t flushes = cache.stats().flushes, dropped = cache.stats().dropped;
  const std::byte* code = pages_.find(cpu_.state.rip);
  if (code == nullptr) code = code_for(cpu_.state.rip);
  if (code == nullptr) return nullptr;
  if (cache.stats().flushes == flushes && cache.stats().dropped == dropped) pages_.link(number);
  return code;
}

/// A signal has come in guest code: a kick, or an exception.
const std::byte* Executor::interrupted() {
  Shared& shared = process_->shared();
  ucontext_t frame;
  Shared::Xsave xsave;
  if (!process_->copy_frame(frame, xsave)) return lose("a signal's frame is not where it belongs");
  take_frame(frame, xsave, shared);
  const auto* pc = std::bit_cast<const std::byte*>(frame.uc_mcontext.gregs[REG_RIP]);
  const Block* block = process_->cache().block_at(pc);
  if (block == nullptr) return lose("a signal came outside of blocks");
  const std::byte* code = locate(*block, pc);
  if (lost_) return nullptr;
  if (shared.signal == kKick) {
    ++stats_.kicks;
    return stop(Next::LookAround);
  }
  if (frame.uc_mcontext.gregs[REG_TRAPNO] != x86::vector::kPf || code == nullptr) return stop(Next::Interpret);
  ++stats_.faults;
  constexpr greg_t kWrite = 2;
  const Access access = (frame.uc_mcontext.gregs[REG_ERR] & kWrite) != 0 ? Access::Write : Access::Read;
  const auto address = static_cast<LinearAddress>(frame.uc_mcontext.gregs[REG_CR2]);
  next_ = Next::Interpret;
  return map(address, access) ? code : nullptr;
}

/// Makes Shared and RIP the guest's state between two of its instructions, from what it was at `pc`. Returns the code
/// of the second where that is known.
const std::byte* Executor::locate(const Block& block, const std::byte* pc) {
  const auto offset = static_cast<std::uint32_t>(pc - block.code);
  Shared& shared = process_->shared();
  const auto inexact = std::find_if(block.inexact.begin(), block.inexact.end(), [offset](const Block::Inexact& piece) {
    return piece.begin <= offset && offset < piece.end;
  });
  if (inexact != block.inexact.end()) {
    for (std::size_t i = 0; i < inexact->spilled.size(); ++i) {
      if (inexact->spilled[i] != Block::Inexact::kExact) shared.gpr[inexact->spilled[i]] = shared.spill[i];
    }
    if (inexact->at == Block::Inexact::At::Target) {
      const Site& site = process_->cache().sites_of(block)[inexact->site];
      cpu_.state.rip = block.linear_page + (site.far_target != 0 ? site.far_target : site.target);
      return nullptr;
    }
    if (inexact->at == Block::Inexact::At::Jump) {
      const auto* code = std::bit_cast<const std::byte*>(shared.jump);
      const Block* target = process_->cache().block_at(code);
      if (target == nullptr) return lose("an indirect jump leads nowhere");
      const auto at = std::ranges::find(target->marks, code - target->code, &Block::Mark::code_offset);
      if (at == target->marks.end()) return lose("an indirect jump leads into an instruction");
      cpu_.state.rip = target->linear_page + at->page_offset;
      return nullptr;
    }
  }
  const auto after = std::upper_bound(block.marks.begin(), block.marks.end(), offset,
                                      [](std::uint32_t at, const Block::Mark& mark) { return at < mark.code_offset; });
  const Block::Mark& mark = *std::prev(after);
  cpu_.state.rip = block.linear_page + mark.page_offset;
  return block.code + mark.code_offset;
}

// --- Memory ---

/// Whether the access would succeed without anything being set in page tables.
bool Executor::settled(LinearAddress address, Access access, memory::GuestPhysical& page) const {
  return cpu_.mmu.settled(address, access, View::User, page);
}

/// Maps the page for an access that has failed; false when it is the guest's fault, or nothing to be mapped. The host
/// has found no other fault of the instruction's that would come first.
bool Executor::map(LinearAddress address, Access access) {
  const LinearAddress linear = x86::Tlb::page_of(address);
  if (!map_.mappable(linear) || map_.has(linear, access == Access::Write)) return false;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(address, access, View::User);
  if (page.fault) {
    faulted_ = {linear, access};
    fault_ = *page.fault;
    next_ = Next::Fault;
  }
  if (page.host == nullptr || cpu_.mmu.code_modified()) return false;
  if (access == Access::Write && !writers_.may_write(self_, page.physical)) return false;
  note_size(linear, page.page_shift);
  map_around(linear);
  return map_.has(linear, access == Access::Write);
}

/// The page and its neighbours.
void Executor::map_around(LinearAddress linear) {
  constexpr std::uint64_t kAround = 16 * memory::kPageSize;
  map_pages(align_down(linear, kAround), kAround);
}

/// As far as their page tables need no change.
void Executor::map_pages(LinearAddress first, std::uint64_t bytes) {
  memory::GuestMemory& memory = cpu_.ports.memory;
  struct Run {
    LinearAddress first = 0;
    std::uint64_t pages = 0, memory_page = 0;
    bool writable = false;
  };
  Run run;
  const auto map_run = [&] {
    if (run.pages != 0) map_.map(run.first, run.pages, run.memory_page, run.writable);
    run = {};
  };
  for (LinearAddress at = first; at != first + bytes; at += memory::kPageSize) {
    memory::GuestPhysical physical = 0;
    const bool readable = map_.mappable(at) && settled(at, Access::Read, physical) &&
                          memory.page(physical) != nullptr && !cpu_.mmu.has_watches();
    memory::GuestPhysical written = 0;
    const bool writable =
        readable && settled(at, Access::Write, written) && written == physical && writers_.may_write(self_, physical);
    if (!readable || map_.has(at, writable)) {
      map_run();
      continue;
    }
    if (writable) memory.prepare_write(physical);
    const std::uint64_t memory_page = memory.page_index(physical);
    if (run.pages == 0 || run.writable != writable || run.memory_page + run.pages != memory_page) {
      map_run();
      run = {at, 0, memory_page, writable};
    }
    ++run.pages;
    ++stats_.pages_mapped;
  }
  map_run();
}

// --- Code ---

const std::byte* Executor::code_at(LinearAddress rip) {
  const bool jumped = std::exchange(jumped_, false);
  const std::byte* code = pages_.find(rip);
  if (code == nullptr) code = code_for(rip);
  if (code != nullptr && jumped) pages_.add_target(rip);
  return code;
}

/// For an address whose page is not in force, or has no code there yet.
const std::byte* Executor::code_for(LinearAddress rip) {
  next_ = Next::Interpret;
  if (!x86::is_canonical(rip)) return nullptr;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(rip, Access::Execute, View::User);
  if (page.fault || page.host == nullptr) return nullptr;
  note_size(rip, page.page_shift);
  const std::uint32_t mode = code_mode();
  pages_.put_in_force(page.physical, mode, x86::Tlb::page_of(rip));
  const std::byte* code = pages_.find(rip);
  if (code != nullptr || process_->cache().given_up(page.physical + page_offset(rip), mode)) return code;
  const Preference::Clock::time_point begun = Preference::Clock::now();
  code = translate(rip, page, mode);
  spent_.learning += Preference::Clock::now() - begun + Preference::kSwitches;
  return code;
}

const std::byte* Executor::translate(LinearAddress rip, const x86::Mmu::EnginePage& page, std::uint32_t mode) {
  if (process_->cache().room() == nullptr) pages_.flush();
  memory::GuestMemory& memory = cpu_.ports.memory;
  const LinearAddress linear_page = x86::Tlb::page_of(rip);
  const std::uint64_t index = memory.page_index(page.physical);
  const std::uint32_t generation = memory.code().generation(index);
  const bool numeric_error = (mode & kNumericError) != 0;
  const std::uint64_t offset = page_offset(rip);
  CodePages::Page& known = pages_.put_in_force(page.physical, mode, linear_page);
  const Translator::Source source{
      {page.host + offset, memory::kPageSize - offset},
      page.physical + offset,
      rip,
      mode,
      {mode_.has(Mode::kX87) && numeric_error, mode_.has(Mode::kSse), mode_.has(Mode::kAvx), linear_page},
      Block::kNone,
      &known.starts};
  const std::byte* code = nullptr;
  if (translate_reachable(known, source, index)) {
    code = CodePages::code_at(known, static_cast<std::uint16_t>(offset));
  } else if (source.bytes.size() < isa::kMaxInsnLength) {
    code = translate_crossing(source);
  }
  if (memory.code().generation(index) == generation) return code;
  // Somebody stored to the page meanwhile.
  drop_code(page.physical);
  return nullptr;
}

/// The block at the source's first instruction, and all of the page that it leads to without looking anything up. False
/// where there is no such block.
bool Executor::translate_reachable(CodePages::Page& page, Translator::Source source, std::uint64_t index) {
  dbt::CodeCache& cache = process_->cache();
  const std::byte* host = source.bytes.data() - page_offset(source.linear);
  const std::uint32_t first_site = cache.next_site();
  std::vector<CodePages::Target> targets;
  wanted_.assign(1, static_cast<std::uint16_t>(page_offset(source.linear)));
  bool any = false;
  while (!wanted_.empty()) {
    const std::uint16_t offset = wanted_.back();
    wanted_.pop_back();
    if (page.starts.test(offset)) continue;
    if (any && cache.room() == nullptr) break;
    source.bytes = {host + offset, memory::kPageSize - offset};
    source.physical = page.physical + offset;
    source.linear = page.linear + offset;
    const auto announce = [&](std::size_t end) {
      cpu_.ports.memory.code().add_code(index, offset, end);
      writers_.protect(self_, page.physical);
    };
    const Translator::Made made = translator_.translate(source, announce);
    if (made.block == nullptr) {
      if (!any) return false;
      continue;
    }
    any = true;
    CodePages::add(page, *made.block, made.literals);
    for (const Site& site : cache.sites_of(*made.block)) {
      if (site.jump != 0 && site.far_target == 0) wanted_.push_back(site.target);
    }
    for (const std::uint16_t at : made.returns) {
      wanted_.push_back(at);
      targets.push_back({at, nullptr});
    }
  }
  pages_.link_all(page, first_site, cache.next_site());
  for (CodePages::Target& target : targets) target.code = CodePages::code_at(page, target.offset);
  std::erase_if(targets, [](const CodePages::Target& target) { return target.code == nullptr; });
  pages_.add_targets(page, targets);
  return true;
}

/// The instruction at the end of a page, if the rest of it can be had from the next.
const std::byte* Executor::translate_crossing(Translator::Source source) {
  const LinearAddress next = x86::Tlb::page_of(source.linear) + memory::kPageSize;
  if (!x86::is_canonical(next)) return nullptr;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(next, Access::Execute, View::User);
  if (page.host == nullptr) return nullptr;
  note_size(next, page.page_shift);
  CodePages::Page& known =
      pages_.put_crossing_in_force(source.physical, page.physical, source.mode, x86::Tlb::page_of(source.linear));
  const auto offset = static_cast<std::uint16_t>(page_offset(source.linear));
  if (const std::byte* code = CodePages::code_at(known, offset)) return code;
  memory::CodeMap& code = cpu_.ports.memory.code();
  const std::uint64_t index = cpu_.ports.memory.page_index(page.physical);
  const std::uint32_t generation = code.generation(index);
  const std::size_t rest = isa::kMaxInsnLength - source.bytes.size();
  code.add_code(index, 0, rest);
  writers_.protect(self_, page.physical);
  std::array<std::byte, isa::kMaxInsnLength> bytes{};
  std::copy_n(page.host, rest, std::copy(source.bytes.begin(), source.bytes.end(), bytes.begin()));
  source.bytes = bytes;
  source.second_page = page.physical;
  source.starts = nullptr;
  // The bytes of the first page have been announced.
  const Translator::Made made = translator_.translate(source, [](std::size_t) {});
  if (made.block == nullptr) return nullptr;
  CodePages::add(known, *made.block, made.literals);
  if (code.generation(index) == generation) return CodePages::code_at(known, offset);
  drop_code(page.physical);
  return nullptr;
}

// --- What it tells ---

nlohmann::json Executor::stats() const {
  const dbt::CodeCache::Stats& cache = process_->cache().stats();
  return {{"entries", stats_.entries},
          {"hand_overs", stats_.hand_overs},
          {"chains", stats_.chains},
          {"interpreted", stats_.interpreted},
          {"kicks", stats_.kicks},
          {"faults", stats_.faults},
          {"pages_mapped", stats_.pages_mapped},
          {"pages", map_.size()},
          {"address_spaces", stats_.spaces},
          {"blocks_translated", cache.blocks},
          {"code_bytes", cache.code_bytes},
          {"cache_flushes", cache.flushes}};
}

/// A bug of ours, a program that has found one, or somebody who has killed the process. The program pays for it, for
/// its memory has gone on without its registers; the machine goes on.
const std::byte* Executor::lose(const std::string& why) {
  log::error("direct", "{}; a program of the guest ends for it near RIP {:#x}, and no other runs directly from now on",
             why, cpu_.state.rip);
  lost_ = true;
  return stop(Next::Lost);
}

}  // namespace doppel::engine::direct
