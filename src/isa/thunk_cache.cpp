#include "isa/thunk_cache.h"

#include <utility>

namespace doppel::isa {

namespace {

constexpr std::size_t kCodeAreaSize = std::size_t{64} << 20;  // committed as it fills

std::uint32_t key_of(const ThunkRequest& request) {
  return static_cast<std::uint32_t>(request.address) | std::uint32_t{request.has_index} << 8 |
         std::uint32_t{request.scale} << 16 | std::uint32_t{request.discard_flags} << 24;
}

}  // namespace

Result<std::unique_ptr<ThunkCache>> ThunkCache::create(const ThunkEnvironment& environment) {
  Result<CodeArea> area = CodeArea::create(kCodeAreaSize);
  if (!area) return area.error();
  return std::unique_ptr<ThunkCache>(new ThunkCache(std::move(*area), environment));
}

std::string ThunkCache::shape_of(const Insn& insn) {
  std::string shape;
  const auto add = [&shape](unsigned value) { shape.push_back(static_cast<char>(value)); };
  add(insn.mnemonic & 0xFF);
  add(static_cast<unsigned>(insn.mnemonic) >> 8);
  add(insn.lock);
  if (depends_on_operand_size(insn.mnemonic)) add(insn.operand_size);
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.op[i];
    add(static_cast<unsigned>(operand.kind));
    add(operand.size);
    if (operand.kind == OperandKind::X87) add(operand.reg);
    if (operand.kind == OperandKind::Immediate && bakes_immediate(insn))
      add(static_cast<unsigned>(insn.imm[operand.reg] & 0xFF));
  }
  return shape;
}

ThunkCache::Entry& ThunkCache::entry(const Insn& insn) {
  std::unique_ptr<Entry>& slot = entries_[shape_of(insn)];
  if (slot == nullptr) {
    slot = std::make_unique<Entry>();
    slot->valid = canonicalize(insn, slot->canonical);
  }
  return *slot;
}

const Canonical* ThunkCache::canonical(const Insn& insn) {
  const std::lock_guard lock(mutex_);
  const Entry& found = entry(insn);
  return found.valid ? &found.canonical : nullptr;
}

std::byte* ThunkCache::thunk(const Insn& insn, const ThunkRequest& request) {
  const std::lock_guard lock(mutex_);
  Entry& found = entry(insn);
  if (!found.valid) return nullptr;
  std::byte*& address = found.thunks[key_of(request)];
  if (address == nullptr) {
    const std::vector<std::byte> code = emit_thunk(found.canonical, request, environment_);
    address = area_.reserve(code.size());
    if (address != nullptr) area_.write(address, code);
  }
  return address;
}

CoreThunk ThunkCache::core(const Insn& insn) {
  return reinterpret_cast<CoreThunk>(thunk(insn, {.address = AddressForm::Given}));
}

Handler ThunkCache::handler(const Insn& insn, const ThunkRequest& request) {
  return reinterpret_cast<Handler>(thunk(insn, request));
}

}  // namespace doppel::isa
