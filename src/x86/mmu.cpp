#include "x86/mmu.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "x86/fault.h"
#include "x86/paging_walk.h"

namespace doppel::x86 {

using memory::GuestPhysical;
using memory::kPageSize;

Mmu::Mmu(CpuState& state, memory::GuestMemory& memory, CpuIo& io, const CpuidModel& cpuid)
    : state_(state), memory_(memory), io_(io), cpuid_(cpuid) {
  refresh_view();
}

void Mmu::refresh_view() {
  const bool user = state_.cpl() == 3;
  const bool aligned = user && (state_.cr0 & cr0::kAm) != 0 && (state_.rflags_without_of & rflags::kAc) != 0;
  if (aligned != checks_alignment_) set_alignment_checks(aligned);
  if (user) {
    data_view_ = View::User;
    fetch_tlb_ = kUserFetch;
    return;
  }
  const bool smap = (state_.cr4 & cr4::kSmap) != 0 && (state_.rflags_without_of & rflags::kAc) == 0;
  data_view_ = smap ? View::SupervisorSmap : View::Supervisor;
  fetch_tlb_ = kSupervisorFetch;
}

void Mmu::set_alignment_checks(bool on) {
  checks_alignment_ = on;
  tlb_[static_cast<std::size_t>(View::User)].flush_all();
  if (flush_listener_ != nullptr) flush_listener_->flushed_all();
}

namespace {
/// The alignment that an operand of this size must have; SDM vol. 3, table 6-7. Instructions that want 16 bytes or more
/// aligned in any case raise #GP, which goes first.
std::uint64_t required_alignment(std::size_t size) {
  switch (size) {
    case 2:
    case 14:  // FLDENV, FSTENV, FRSTOR and FSAVE with 16-bit operands …
    case 94:
      return 2;
    case 4:
    case 28:  // … and with 32-bit operands
    case 108:
      return 4;
    case 8:
    case 10:  // 80-bit floating point
      return 8;
    case 16:
    case 32:
      return 16;
    default:
      return 1;
  }
}
}  // namespace

void Mmu::check_alignment(LinearAddress address, std::size_t size, View view) const {
  if (!checks_alignment_ || view != View::User) return;
  if (address % required_alignment(size) != 0) raise(vector::kAc, 0);
}

bool Mmu::addressable(LinearAddress& address) const {
  if (state_.long_mode_active()) return is_canonical(address);
  address &= 0xFFFF'FFFF;
  return true;
}

LinearAddress Mmu::effective(LinearAddress address) const {
  if (!addressable(address)) raise_gp();
  return address;
}

namespace {
WalkRequest walk_request(LinearAddress address, Access access, View view) {
  return {address, access == Access::Write, access == Access::Execute, view == View::User, view == View::Supervisor};
}
}  // namespace

PagingRegisters Mmu::paging_registers() const {
  return PagingRegisters::of(state_, cpuid_.physical_address_bits(), cpuid_.has(CpuidModel::Feature::Page1Gb));
}

std::optional<Fault> Mmu::try_walk_and_fill(LinearAddress address, Access access, View view, Target& target) {
  ++stats_.misses;
  address = effective(address);
  WalkResult result{true, 0, address, memory::kPageShift, false, false};
  if ((state_.cr0 & cr0::kPg) != 0) {
    ++stats_.walks;
    result = walk(memory_, paging_registers(), walk_request(address, access, view));
    if (result.code_modified) code_modified_ = true;
    if (!result.ok) return Fault{vector::kPf, true, result.error_code, address};
  }

  std::byte* page = memory_.page(result.physical);
  target = {nullptr, result.physical};
  if (page == nullptr) return std::nullopt;
  if (access == Access::Write) memory_.prepare_write(result.physical);
  const LinearAddress linear_page = Tlb::page_of(address);
  const bool checked = checks_alignment_ && view == View::User;
  if (access == Access::Execute || !(checked || watched(linear_page))) {
    Tlb& tlb = access == Access::Execute ? tlb_[view == View::User ? kUserFetch : kSupervisorFetch]
                                         : tlb_[static_cast<std::size_t>(view)];
    tlb.fill(linear_page, {page, align_down(result.physical, kPageSize),
                           &memory_.code().lines_cell(memory_.page_index(result.physical)), result.page_shift,
                           result.global, access == Access::Write});
  }
  target.host = page + page_offset(address);
  return std::nullopt;
}

Mmu::Target Mmu::walk_and_fill(LinearAddress address, Access access, View view) {
  Target target{};
  if (const std::optional<Fault> fault = try_walk_and_fill(address, access, view, target)) throw Fault(*fault);
  return target;
}

Mmu::Target Mmu::translate(LinearAddress address, Access access, View view) {
  if (access != Access::Execute) {
    const Tlb::Entry& entry = tlb_of(view).entry(address);
    if ((access == Access::Write ? entry.write_tag : entry.read_tag) == Tlb::page_of(address))
      return {entry.host + page_offset(address), tlb_of(view).physical_page(address) + page_offset(address)};
  }
  return walk_and_fill(address, access, view);
}

namespace {
/// How much of [address, address + size) lies in the first page.
std::size_t first_part(LinearAddress address, std::size_t size) {
  return std::min<std::size_t>(size, kPageSize - (address & (kPageSize - 1)));
}

/// The largest naturally aligned piece of 1, 2, 4 or 8 bytes at the start of a transfer to MMIO.
unsigned bus_piece(GuestPhysical address, std::size_t remaining) {
  unsigned size = 8;
  while (size > remaining || address % size != 0) size /= 2;
  return size;
}
}  // namespace

/// `size` is at most a page, so that two targets do. Both are known to be accessible when this returns.
Mmu::Targets Mmu::translate_span(LinearAddress address, std::size_t size, Access access, View view) {
  const std::size_t first = first_part(address, size);
  Targets targets{translate(address, access, view), {}};
  if (first < size) targets[1] = translate(effective(address + first), access, view);
  return targets;
}

namespace {
/// A copy that touches each byte once, and sizes that the processor moves as a whole in one piece: another processor
/// may be looking at, or storing to, the same memory. (A library's memcpy writes some bytes twice.)
void copy_once(std::byte* target, const std::byte* source, std::size_t size) {
  switch (size) {
    case 1:
      std::memcpy(target, source, 1);
      return;
    case 2:
      std::memcpy(target, source, 2);
      return;
    case 4:
      std::memcpy(target, source, 4);
      return;
    case 8:
      std::memcpy(target, source, 8);
      return;
    case 16:
      std::memcpy(target, source, 16);
      return;
    default:
      break;
  }
  while (size >= 8) {
    std::memcpy(target, source, 8);
    target += 8;
    source += 8;
    size -= 8;
  }
  for (; size != 0; --size) *target++ = *source++;
}
}  // namespace

void Mmu::read_target(const Target& target, std::span<std::byte> out) {
  if (target.host != nullptr) {
    copy_once(out.data(), target.host, out.size());
    return;
  }
  for (std::size_t done = 0; done < out.size();) {
    const unsigned size = bus_piece(target.physical + done, out.size() - done);
    const std::uint64_t value = io_.mmio_read(target.physical + done, size);
    std::memcpy(out.data() + done, &value, size);
    done += size;
  }
}

void Mmu::write_target(const Target& target, std::span<const std::byte> bytes) {
  if (target.host != nullptr) {
    copy_once(target.host, bytes.data(), bytes.size());
    note_physical_store(target.physical, bytes.size());
    return;
  }
  for (std::size_t done = 0; done < bytes.size();) {
    const unsigned size = bus_piece(target.physical + done, bytes.size() - done);
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + done, size);
    io_.mmio_write(target.physical + done, size, value);
    done += size;
  }
}

void Mmu::read_bytes(LinearAddress address, std::span<std::byte> out, View view) {
  check_alignment(address, out.size(), view);
  if (out.size() > kPageSize) probe(address, out.size(), Access::Read, view);
  while (!out.empty()) {
    const std::size_t size = std::min<std::size_t>(out.size(), kPageSize), first = first_part(address, size);
    const Targets targets = translate_span(address, size, Access::Read, view);
    read_target(targets[0], out.first(first));
    if (first < size) read_target(targets[1], out.subspan(first, size - first));
    check_watches(address, size, Access::Read);
    address += size;
    out = out.subspan(size);
  }
}

void Mmu::write_bytes(LinearAddress address, std::span<const std::byte> bytes, View view) {
  check_alignment(address, bytes.size(), view);
  if (bytes.size() > kPageSize) probe(address, bytes.size(), Access::Write, view);
  while (!bytes.empty()) {
    const std::size_t size = std::min<std::size_t>(bytes.size(), kPageSize), first = first_part(address, size);
    const Targets targets = translate_span(address, size, Access::Write, view);
    write_target(targets[0], bytes.first(first));
    if (first < size) write_target(targets[1], bytes.subspan(first, size - first));
    check_watches(address, size, Access::Write);
    address += size;
    bytes = bytes.subspan(size);
  }
}

std::byte* Mmu::host_slow(LinearAddress address, std::size_t size, Access access, View view) {
  check_alignment(address, size, view);
  if (first_part(address, size) < size || watched(Tlb::page_of(address))) return nullptr;
  return translate(address, access, view).host;
}

void Mmu::wrote_slow(LinearAddress address, std::size_t size) {
  // The slot has gone to another page since host().
  GuestPhysical physical = 0;
  if (debug_translate(address, physical)) note_physical_store(physical, size);
}

void Mmu::note_physical_store(GuestPhysical address, std::size_t size) {
  if (memory_.page(address) != nullptr && memory_.note_write(address, size)) code_modified_ = true;
}

void Mmu::probe(LinearAddress address, std::size_t size, Access access, View view) {
  while (size != 0) {
    translate(effective(address), access, view);
    const std::size_t part = first_part(address, size);
    address += part;
    size -= part;
  }
}

Mmu::FetchPage Mmu::fetch_slow(LinearAddress address) {
  const View view = fetch_tlb_ == kUserFetch ? View::User : View::Supervisor;
  const Target target = walk_and_fill(address, Access::Execute, view);
  return {target.host, target.physical};
}

Mmu::EnginePage Mmu::engine_page(LinearAddress address, Access access, View view) {
  const bool fetch = access == Access::Execute;
  const Tlb& tlb = fetch ? tlb_[view == View::User ? kUserFetch : kSupervisorFetch] : tlb_of(view);
  const auto known = [&] {
    const Tlb::Entry& entry = tlb.entry(address);
    return (access == Access::Write ? entry.write_tag : entry.read_tag) == Tlb::page_of(address);
  };
  if (!known()) {
    Target target{};
    if (std::optional<Fault> fault = try_walk_and_fill(address, access, view, target))
      return {nullptr, 0, memory::kPageShift, false, fault};
    if (target.host == nullptr || !known()) return {};
  }
  return {tlb.entry(address).host, tlb.physical_page(address), tlb.page_shift(address), tlb.global(address), {}};
}

bool Mmu::settled(LinearAddress address, Access access, View view, GuestPhysical& physical_page) const {
  if (!addressable(address)) return false;
  GuestPhysical physical = address;
  const bool paging = (state_.cr0 & cr0::kPg) != 0;
  if (paging && !walk_settled(memory_, paging_registers(), walk_request(address, access, view), physical)) return false;
  physical_page = align_down(physical, kPageSize);
  return true;
}

bool Mmu::debug_translate(LinearAddress address, GuestPhysical& physical) const {
  if (!addressable(address)) return false;
  if ((state_.cr0 & cr0::kPg) == 0) {
    physical = address;
    return true;
  }
  return walk_quietly(memory_, paging_registers(), address, physical);
}

void Mmu::flush_all() {
  ++stats_.flushes;
  for (Tlb& tlb : tlb_) tlb.flush_all();
  if (flush_listener_ != nullptr) flush_listener_->flushed_all();
}

void Mmu::flush_non_global() {
  ++stats_.flushes;
  for (Tlb& tlb : tlb_) tlb.flush_non_global();
  if (flush_listener_ != nullptr) flush_listener_->flushed_non_global();
}

void Mmu::flush_page(LinearAddress address) {
  for (Tlb& tlb : tlb_) tlb.flush_page(address);
  if (flush_listener_ != nullptr) flush_listener_->flushed_page(Tlb::page_of(address));
}

void Mmu::set_watches(std::vector<Watch> watches) {
  watches_ = std::move(watches);
  flush_all();
}

void Mmu::set_debug_register_watches(std::vector<Watch> watches) {
  if (watches.empty() && debug_register_watches_.empty()) return;
  debug_register_watches_ = std::move(watches);
  flush_all();
}

namespace {
/// Whether [address, address + size) and a watch have a byte in common; right up to the end of the address space.
bool overlaps(const Mmu::Watch& watch, LinearAddress address, std::uint64_t size) {
  return watch.length != 0 && watch.address <= address + (size - 1) && address <= watch.address + (watch.length - 1);
}
}  // namespace

bool Mmu::watched(LinearAddress page) const {
  const auto in_page = [page](const Watch& watch) { return overlaps(watch, page, kPageSize); };
  return std::any_of(watches_.begin(), watches_.end(), in_page) ||
         std::any_of(debug_register_watches_.begin(), debug_register_watches_.end(), in_page);
}

void Mmu::check_watches(LinearAddress address, std::size_t size, Access access) {
  const auto hit = [&](const Watch& watch) {
    return (access == Access::Write ? watch.on_write : watch.on_read) && overlaps(watch, address, size);
  };
  for (const Watch& watch : watches_) {
    if (hit(watch)) watch_hit_ = watch.address;
  }
  for (const Watch& watch : debug_register_watches_) {
    if (hit(watch)) state_.pending_debug |= watch.dr6_bits;
  }
}

bool Mmu::take_watch_hit(LinearAddress& address) {
  if (!watch_hit_) return false;
  address = *watch_hit_;
  watch_hit_.reset();
  return true;
}

}  // namespace doppel::x86
