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

class ThunkCache::Family {
 public:
  bool valid = false;
  Canonical canonical;
  std::byte* core = nullptr;
  std::unordered_map<std::uint32_t, std::byte*> handlers;  ///< by ThunkRequest
};

ThunkCache::ThunkCache(CodeArea area, const ThunkEnvironment& environment)
    : area_(std::move(area)), environment_(environment) {}
ThunkCache::~ThunkCache() = default;

Result<std::unique_ptr<ThunkCache>> ThunkCache::create(const ThunkEnvironment& environment) {
  Result<CodeArea> area = CodeArea::create(kCodeAreaSize);
  if (!area) return area.error();
  return std::unique_ptr<ThunkCache>(new ThunkCache(std::move(*area), environment));
}

std::string ThunkCache::shape_of(const Insn& insn) {
  std::string shape;  // short enough to need no memory of its own
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

ThunkCache::Family* ThunkCache::find(const Insn& insn) {
  const std::string shape = shape_of(insn);
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Family>& family = families_[shape];
  if (family == nullptr) {
    family = std::make_unique<Family>();
    family->valid = canonicalize(insn, family->canonical);
  }
  return family->valid ? family.get() : nullptr;
}

const Canonical& ThunkCache::canonical(const Family& family) {
  return family.canonical;
}

/// Under the lock.
std::byte* ThunkCache::thunk(Family& family, const ThunkRequest& request) {
  const std::vector<std::byte> code = emit_thunk(family.canonical, request, environment_);
  std::byte* address = area_.reserve(code.size());
  if (address != nullptr) area_.write(address, code);
  return address;
}

CoreThunk ThunkCache::core(Family& family) {
  const std::lock_guard lock(mutex_);
  if (family.core == nullptr) family.core = thunk(family, {.address = AddressForm::Given});
  return reinterpret_cast<CoreThunk>(family.core);
}

Handler ThunkCache::handler(Family& family, const ThunkRequest& request) {
  const std::lock_guard lock(mutex_);
  std::byte*& address = family.handlers[key_of(request)];
  if (address == nullptr) address = thunk(family, request);
  return reinterpret_cast<Handler>(address);
}

}  // namespace doppel::isa
