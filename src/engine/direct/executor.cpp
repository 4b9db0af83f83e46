#include "engine/direct/executor.h"

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
      preference_(preference),
      pin_(places) {
  jumps_.attach(&process_->jumps());
}

Executor::~Executor() {
  cpu_.ports.attention.set_kicker(nullptr);
}

bool Executor::wanted(std::uint64_t returns) {
  const bool direct = !lost_ && cpu_.ports.memory.shared_fd() >= 0 && preference_.ask(space(), returns);
  if (!direct) pin_.release();
  return direct;
}

// --- Told by others ---

void Executor::flushed_page(LinearAddress address) {
  // Of a large page, all pieces.
  if (any_large_) return flushed_non_global();
  const LinearAddress page = x86::Tlb::page_of(address);
  map_.drop(page);
  jumps_.flush_page(page);
  process_->cache().unlink_far_to(page);
  resume_ = {};
  if (const auto second = second_pages_.find(page); second != second_pages_.end()) drop_code(second->second);
}

void Executor::drop_code(memory::GuestPhysical page) {
  for (const memory::GuestPhysical start : process_->cache().drop_page(page)) jumps_.drop_physical(start);
  resume_ = {};
}

void Executor::drop_writes(memory::GuestPhysical page) {
  map_.drop_writes(cpu_.ports.memory.page_index(page));
}

// --- Running ---

Executor::Next Executor::run(Mode mode) {
  const Preference::Clock::time_point begun = Preference::Clock::now();
  spent_ = {};
  ++stats_.entries;
  if (mode_.key != mode.key) {
    jumps_.flush_all();
    process_->cache().unlink_far();
    resume_ = {};
    mode_ = mode;
  }
  prepare();
  if (const auto faulted = std::exchange(faulted_, std::nullopt)) map_around(*faulted);
  if (const std::optional<int> cpu = pin_.settle(begun)) process_->move_to(*cpu);
  put_state(cpu_.state, process_->shared());
  next_ = Next::LookAround;
  const std::byte* code = code_at(cpu_.state.rip);
  while (code != nullptr && pass_turn(code)) code = handed_back();
  take_state(process_->shared(), cpu_.state);
  stats_.hand_overs += spent_.count;
  spent_.time = Preference::Clock::now() - begun;
  preference_.ran(space_, spent_);
  return next_;
}

/// Takes over what has changed in the guest's page tables since the last time.
void Executor::prepare() {
  const bool another = std::exchange(space_, space()) != space_;
  const Flushed flushed = std::exchange(flushed_, Flushed::Nothing);
  if (!another && flushed == Flushed::Nothing) return;
  if (another) ++stats_.spaces;
  if (another || flushed == Flushed::All) {
    map_.drop_all();
    any_large_ = false;
  } else {
    map_.revalidate([this](LinearAddress linear, std::uint64_t memory_page, bool writable) {
      memory::GuestPhysical page = 0;
      return settled(linear, writable ? Access::Write : Access::Read, page) &&
             page == cpu_.ports.memory.page_address(memory_page);
    });
  }
  bool same = true;
  jumps_.doubt_all();
  jumps_.revalidate([&](LinearAddress linear, memory::GuestPhysical page) {
    const bool still = cpu_.mmu.leads_to(linear, page, Access::Execute, View::User);
    same = same && still;
    return still;
  });
  std::vector<memory::GuestPhysical> moved;
  for (const auto& [linear, page] : second_pages_) {
    if (!cpu_.mmu.leads_to(linear, page, Access::Execute, View::User)) moved.push_back(page);
  }
  for (const memory::GuestPhysical page : moved) drop_code(page);
  if (!moved.empty()) second_pages_.clear();
  if (same && moved.empty()) return;
  process_->cache().unlink_far();
  resume_ = {};
}

/// The process runs from `code` on, with the state in Shared. False when something waits for the vCPU before that.
bool Executor::pass_turn(const std::byte* code) {
  x86::Attention& attention = cpu_.ports.attention;
  process_->forget_kicks();
  attention.set_kicker(process_.get());
  if (attention.any()) {
    attention.set_kicker(nullptr);
    resume_ = {cpu_.state.rip, code};
    next_ = Next::LookAround;
    return false;
  }
  settle_xsave(process_->shared().xsave);
  ++spent_.count;
  const Preference::Clock::time_point begun = Preference::Clock::now();
  const Result<void> ran = process_->run(code);
  spent_.turns += Preference::Clock::now() - begun;
  attention.set_kicker(nullptr);
  if (!ran) lose(ran.error().message);
  return !lost_;
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
    cpu_.state.rip = site.block->linear_page + site.page_offset;
    return stop(Next::Interpret);
  }
  ++stats_.chains;
  cpu_.state.rip = site.far_target != 0 ? site.far_target : site.block->linear_page + site.target;
  const dbt::CodeCache::Stats before = cache.stats();
  Block* target = block_at(cpu_.state.rip);
  if (target == nullptr) return nullptr;
  if (cache.stats().flushes == before.flushes && cache.stats().dropped == before.dropped) cache.link(number, target);
  return target->code;
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
    if (code != nullptr) resume_ = {cpu_.state.rip, code};
    return stop(Next::LookAround);
  }
  if (frame.uc_mcontext.gregs[REG_TRAPNO] != x86::vector::kPf || code == nullptr) return stop(Next::Interpret);
  ++stats_.faults;
  constexpr greg_t kWrite = 2;
  const Access access = (frame.uc_mcontext.gregs[REG_ERR] & kWrite) != 0 ? Access::Write : Access::Read;
  const auto address = static_cast<LinearAddress>(frame.uc_mcontext.gregs[REG_CR2]);
  return map(address, access) ? code : stop(Next::Interpret);
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
      cpu_.state.rip = site.far_target != 0 ? site.far_target : block.linear_page + site.target;
      return nullptr;
    }
    if (inexact->at == Block::Inexact::At::Jump) {
      const auto* code = std::bit_cast<const std::byte*>(shared.jump);
      const Block* target = process_->cache().block_at(code);
      if (target == nullptr || target->code != code) return lose("an indirect jump leads nowhere");
      cpu_.state.rip = target->linear_page + target->page_offset();
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

/// Maps the page for an access that has failed; false when it is the guest's fault, or nothing to be mapped.
bool Executor::map(LinearAddress address, Access access) {
  const LinearAddress linear = x86::Tlb::page_of(address);
  if (!map_.mappable(linear) || map_.has(linear, access == Access::Write)) return false;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(address, access, View::User);
  if (page.fault) faulted_ = linear;
  if (page.host == nullptr || cpu_.mmu.code_modified()) return false;
  if (access == Access::Write && !writers_.may_write(self_, page.physical)) return false;
  if (page.page_shift != memory::kPageShift) any_large_ = true;
  map_around(linear);
  return map_.has(linear, access == Access::Write);
}

/// The page and its neighbours, as far as their page tables need no change.
void Executor::map_around(LinearAddress linear) {
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
  constexpr std::uint64_t kAround = 16 * memory::kPageSize;
  const LinearAddress first = align_down(linear, kAround);
  for (LinearAddress at = first; at != first + kAround; at += memory::kPageSize) {
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
  if (resume_.code != nullptr && resume_.rip == rip) return resume_.code;
  if (const void* known = jumps_.find(rip)) return static_cast<const std::byte*>(known);
  const Block* block = block_at(rip);
  return block == nullptr ? nullptr : block->code;
}

Block* Executor::block_at(LinearAddress rip) {
  next_ = Next::Interpret;
  if (!x86::is_canonical(rip)) return nullptr;
  const Preference::Clock::time_point begun = Preference::Clock::now();
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(rip, Access::Execute, View::User);
  if (page.fault || page.host == nullptr) return nullptr;
  if (page.page_shift != memory::kPageShift) any_large_ = true;
  const bool numeric_error = (cpu_.state.cr0 & x86::cr0::kNe) != 0;
  const std::uint32_t mode = mode_.key | (numeric_error ? kNumericError : 0);
  dbt::CodeCache& cache = process_->cache();
  const memory::GuestPhysical physical = page.physical + page_offset(rip);
  Block* block = cache.find(physical, mode, rip);
  if (block == nullptr && !cache.given_up(physical, mode)) block = translate(rip, page, mode);
  if (block != nullptr) jumps_.put(rip, block->code, page.physical, page.global);
  spent_.learning += Preference::Clock::now() - begun + Preference::kSwitches;
  return block;
}

Block* Executor::translate(LinearAddress linear, const x86::Mmu::EnginePage& page, std::uint32_t mode) {
  dbt::CodeCache& cache = process_->cache();
  if (cache.room() == nullptr) {
    cache.flush();
    jumps_.flush_all();
    second_pages_.clear();
    resume_ = {};
  }
  memory::GuestMemory& memory = cpu_.ports.memory;
  memory::CodeMap& code = memory.code();
  const std::uint64_t offset = page_offset(linear);
  const std::uint64_t index = memory.page_index(page.physical);
  const std::uint32_t generation = code.generation(index);
  const auto announce = [&](std::size_t end) {
    code.add_code(index, offset, end);
    writers_.protect(self_, page.physical);
  };
  const bool numeric_error = (mode & kNumericError) != 0;
  Translator::Source source{{page.host + offset, memory::kPageSize - offset},
                            page.physical + offset,
                            linear,
                            mode,
                            {mode_.has(Mode::kX87) && numeric_error, mode_.has(Mode::kSse), mode_.has(Mode::kAvx),
                             x86::Tlb::page_of(linear)}};
  Block* block = translator_.translate(source, announce);
  if (block == nullptr && source.bytes.size() < isa::kMaxInsnLength) block = translate_crossing(source);
  if (code.generation(index) == generation) return block;
  // Somebody stored to the page meanwhile.
  drop_code(page.physical);
  return nullptr;
}

/// The instruction at the end of a page, if the rest of it can be had from the next.
Block* Executor::translate_crossing(Translator::Source source) {
  const LinearAddress next = x86::Tlb::page_of(source.linear) + memory::kPageSize;
  if (!x86::is_canonical(next)) return nullptr;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(next, Access::Execute, View::User);
  if (page.host == nullptr) return nullptr;
  if (page.page_shift != memory::kPageShift) any_large_ = true;
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
  // The bytes of the first page have been announced.
  Block* block = translator_.translate(source, [](std::size_t) {});
  if (block != nullptr) second_pages_[next] = page.physical;
  if (code.generation(index) == generation) return block;
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
