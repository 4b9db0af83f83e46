#include "debug/register_layout.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/bits.h"
#include "debug/x87_image.h"
#include "x86/descriptor.h"

namespace doppel::debug {
namespace {

using x86::CpuState;
using x86::SegReg;

/// General registers in GDB's order, which is not that of the encoding for x86-64.
struct NamedGpr {
  const char* name;
  x86::Gpr reg;
};
constexpr NamedGpr kGprs64[] = {{"rax", x86::kRax}, {"rbx", x86::kRbx}, {"rcx", x86::kRcx}, {"rdx", x86::kRdx},
                                {"rsi", x86::kRsi}, {"rdi", x86::kRdi}, {"rbp", x86::kRbp}, {"rsp", x86::kRsp},
                                {"r8", x86::kR8},   {"r9", x86::kR9},   {"r10", x86::kR10}, {"r11", x86::kR11},
                                {"r12", x86::kR12}, {"r13", x86::kR13}, {"r14", x86::kR14}, {"r15", x86::kR15}};
constexpr NamedGpr kGprs32[] = {{"eax", x86::kRax}, {"ecx", x86::kRcx}, {"edx", x86::kRdx}, {"ebx", x86::kRbx},
                                {"esp", x86::kRsp}, {"ebp", x86::kRbp}, {"esi", x86::kRsi}, {"edi", x86::kRdi}};

struct NamedSegment {
  const char* name;
  SegReg reg;
};
constexpr NamedSegment kSelectors[] = {{"cs", SegReg::Cs}, {"ss", SegReg::Ss}, {"ds", SegReg::Ds},
                                       {"es", SegReg::Es}, {"fs", SegReg::Fs}, {"gs", SegReg::Gs}};

struct NamedControl {
  const char* name;
  std::uint64_t CpuState::*field;
  const char* type;
};
constexpr NamedControl kControls[] = {
    {"cr0", &CpuState::cr0, "doppel_cr0"},    {"cr2", &CpuState::cr2, "int"},
    {"cr3", &CpuState::cr3, "int"},           {"cr4", &CpuState::cr4, "doppel_cr4"},
    {"efer", &CpuState::efer, "doppel_efer"}, {"k_gs_base", &CpuState::kernel_gs_base, "int"}};

struct NamedBit {
  const char* name;
  unsigned position;
};
constexpr NamedBit kEflagsBits[] = {{"CF", 0},  {"", 1},    {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},
                                    {"TF", 8},  {"IF", 9},  {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16},
                                    {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}};
constexpr NamedBit kMxcsrBits[] = {{"IE", 0}, {"DE", 1}, {"ZE", 2}, {"OE", 3},  {"UE", 4},  {"PE", 5},  {"DAZ", 6},
                                   {"IM", 7}, {"DM", 8}, {"ZM", 9}, {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15}};
constexpr NamedBit kCr0Bits[] = {{"PE", 0},  {"MP", 1},  {"EM", 2},  {"TS", 3},  {"ET", 4}, {"NE", 5},
                                 {"WP", 16}, {"AM", 18}, {"NW", 29}, {"CD", 30}, {"PG", 31}};
constexpr NamedBit kCr4Bits[] = {{"VME", 0},         {"PVI", 1},   {"TSD", 2},       {"DE", 3},     {"PSE", 4},
                                 {"PAE", 5},         {"MCE", 6},   {"PGE", 7},       {"PCE", 8},    {"OSFXSR", 9},
                                 {"OSXMMEXCPT", 10}, {"UMIP", 11}, {"FSGSBASE", 16}, {"PCIDE", 17}, {"OSXSAVE", 18},
                                 {"SMEP", 20},       {"SMAP", 21}};
constexpr NamedBit kEferBits[] = {{"SCE", 0}, {"LME", 8}, {"LMA", 10}, {"NXE", 11}};

std::string flags_type(std::string_view id, unsigned bytes, std::span<const NamedBit> bits) {
  std::string xml = fmt::format("<flags id=\"{}\" size=\"{}\">", id, bytes);
  for (const NamedBit& bit : bits)
    xml += fmt::format("<field name=\"{0}\" start=\"{1}\" end=\"{1}\"/>", bit.name, bit.position);
  return xml + "</flags>";
}

constexpr std::string_view kVectorTypes =
    R"(<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>)"
    R"(<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>)"
    R"(<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>)"
    R"(<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>)"
    R"(<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/>)"
    R"(<field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>)"
    R"(<field name="uint128" type="uint128"/></union>)";

/// What a debugger may change in RFLAGS: not VM, which would need another set of segments.
constexpr std::uint64_t kWritableFlags = x86::rflags::kStatus | x86::rflags::kTf | x86::rflags::kIf | x86::rflags::kDf |
                                         x86::rflags::kIopl | x86::rflags::kNt | x86::rflags::kRf | x86::rflags::kAc |
                                         x86::rflags::kId;

template <class T>
std::vector<std::byte> to_bytes(T value, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), &value, std::min(size, sizeof value));
  return bytes;
}

std::uint64_t to_number(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

}  // namespace

RegisterLayout::RegisterLayout(Architecture architecture) : architecture_(architecture) {
  add_core();
  add_vectors();
  add_system();
}

RegisterLayout::Architecture RegisterLayout::architecture_of(const CpuState& state) {
  const bool paging = (state.cr0 & x86::cr0::kPg) != 0;
  return paging && !state.long_mode_active() ? Architecture::I386 : Architecture::X86_64;
}

void RegisterLayout::add(std::string name, Kind kind, unsigned index, unsigned bits, std::string type) {
  registers_.push_back({std::move(name), kind, index, bits, std::move(type)});
}

void RegisterLayout::end_feature(std::string name, std::string types) {
  features_.push_back({std::move(name), std::move(types), registers_.size()});
}

void RegisterLayout::add_core() {
  const unsigned width = is_64() ? 64 : 32;
  const std::span<const NamedGpr> gprs =
      is_64() ? std::span<const NamedGpr>{kGprs64} : std::span<const NamedGpr>{kGprs32};
  for (const NamedGpr& gpr : gprs) {
    const bool pointer = gpr.reg == x86::kRsp || gpr.reg == x86::kRbp;
    add(gpr.name, Kind::Gpr, gpr.reg, width, pointer ? "data_ptr" : (is_64() ? "int64" : "int"));
  }
  add(is_64() ? "rip" : "eip", Kind::Rip, 0, width, "code_ptr");
  add("eflags", Kind::Flags, 0, 32, "i386_eflags");
  for (const NamedSegment& segment : kSelectors)
    add(segment.name, Kind::Selector, static_cast<unsigned>(segment.reg), 32, "int32");
  for (unsigned i = 0; i < 8; ++i) add(fmt::format("st{}", i), Kind::St, i, 80, "i387_ext");
  for (unsigned i = 0; i < kX87ControlNames.size(); ++i) add(kX87ControlNames[i], Kind::X87, i, 32, "int");
  end_feature("org.gnu.gdb.i386.core", flags_type("i386_eflags", 4, kEflagsBits));
}

void RegisterLayout::add_vectors() {
  const unsigned count = is_64() ? 16 : 8;
  for (unsigned i = 0; i < count; ++i) add(fmt::format("xmm{}", i), Kind::Xmm, i, 128, "vec128");
  add("mxcsr", Kind::Mxcsr, 0, 32, "i386_mxcsr");
  end_feature("org.gnu.gdb.i386.sse", std::string{kVectorTypes} + flags_type("i386_mxcsr", 4, kMxcsrBits));
  for (unsigned i = 0; i < count; ++i) add(fmt::format("ymm{}h", i), Kind::YmmHigh, i, 128, "uint128");
  end_feature("org.gnu.gdb.i386.avx");
}

void RegisterLayout::add_system() {
  if (is_64()) {
    add("fs_base", Kind::Base, static_cast<unsigned>(SegReg::Fs), 64, "int");
    add("gs_base", Kind::Base, static_cast<unsigned>(SegReg::Gs), 64, "int");
    end_feature("org.gnu.gdb.i386.segments");
  }
  for (unsigned i = 0; i < std::size(kControls); ++i) add(kControls[i].name, Kind::Control, i, 64, kControls[i].type);
  end_feature("org.doppel.i386.system", flags_type("doppel_cr0", 8, kCr0Bits) + flags_type("doppel_cr4", 8, kCr4Bits) +
                                            flags_type("doppel_efer", 8, kEferBits));
}

std::string RegisterLayout::description() const {
  std::string xml = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">";
  xml += fmt::format("<architecture>{}</architecture>", is_64() ? "i386:x86-64" : "i386");
  std::size_t number = 0;
  for (const Feature& feature : features_) {
    xml += fmt::format("<feature name=\"{}\">{}", feature.name, feature.types);
    for (; number < feature.end; ++number) {
      const Register& reg = registers_[number];
      xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"/>", reg.name, reg.bits, reg.type,
                         number);
    }
    xml += "</feature>";
  }
  return xml + "</target>";
}

std::vector<std::byte> RegisterLayout::read(const CpuState& state, std::size_t number) const {
  const Register& reg = registers_[number];
  const std::size_t size = reg.bytes();
  switch (reg.kind) {
    case Kind::Gpr:
      return to_bytes(state.gpr[reg.index], size);
    case Kind::Rip:
      return to_bytes(state.rip, size);
    case Kind::Flags:
      return to_bytes(state.rflags(), size);
    case Kind::Selector:
      return to_bytes(state.segment[reg.index].selector, size);
    case Kind::St:
      return to_bytes(state.fpu.st[reg.index], size);
    case Kind::X87:
      return to_bytes(x87_control(state.fpu, reg.index), size);
    case Kind::Xmm:
      return to_bytes(std::array{state.ymm[reg.index].qword[0], state.ymm[reg.index].qword[1]}, size);
    case Kind::Mxcsr:
      return to_bytes(state.fpu.mxcsr, size);
    case Kind::Base:
      return to_bytes(state.segment[reg.index].base, size);
    case Kind::YmmHigh:
      return to_bytes(std::array{state.ymm[reg.index].qword[2], state.ymm[reg.index].qword[3]}, size);
    case Kind::Control:
      break;
  }
  return to_bytes(state.*kControls[reg.index].field, size);
}

std::vector<std::byte> RegisterLayout::read_all(const CpuState& state) const {
  std::vector<std::byte> all;
  for (std::size_t number = 0; number < registers_.size(); ++number) {
    const std::vector<std::byte> one = read(state, number);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

bool RegisterLayout::write(CpuState& state, std::size_t number, std::span<const std::byte> bytes) const {
  const Register& reg = registers_[number];
  if (bytes.size() != reg.bytes()) return false;
  const std::uint64_t value = to_number(bytes);
  switch (reg.kind) {
    case Kind::Gpr:
      state.gpr[reg.index] = value;
      return true;
    case Kind::Rip:
      if (!x86::is_canonical(value)) return false;
      state.rip = value;
      return true;
    case Kind::Flags:
      state.set_rflags((state.rflags() & ~kWritableFlags) | (value & kWritableFlags));
      return true;
    case Kind::Selector:
    case Kind::Control:
      return false;
    case Kind::St:
      std::memcpy(&state.fpu.st[reg.index].significand, bytes.data(), 8);
      std::memcpy(&state.fpu.st[reg.index].sign_exponent, bytes.data() + 8, 2);
      return true;
    case Kind::X87:
      set_x87_control(state.fpu, reg.index, static_cast<std::uint32_t>(value));
      return true;
    case Kind::Xmm:
      std::memcpy(&state.ymm[reg.index].qword[0], bytes.data(), 16);
      return true;
    case Kind::Mxcsr:
      // Bits 16 and above are reserved: loading them faults (SDM vol. 1, 10.2.3).
      if (value > 0xFFFF) return false;
      state.fpu.mxcsr = static_cast<std::uint32_t>(value);
      return true;
    case Kind::Base:
      if (!x86::is_canonical(value)) return false;
      state.segment[reg.index].base = value;
      return true;
    case Kind::YmmHigh:
      std::memcpy(&state.ymm[reg.index].qword[2], bytes.data(), 16);
      return true;
  }
  return false;
}

bool RegisterLayout::write_all(CpuState& state, std::span<const std::byte> bytes) const {
  std::size_t total = 0;
  for (const Register& reg : registers_) total += reg.bytes();
  if (bytes.size() != total) return false;
  for (std::size_t number = 0; number < registers_.size(); ++number) {
    const std::size_t size = registers_[number].bytes();
    static_cast<void>(write(state, number, bytes.first(size)));
    bytes = bytes.subspan(size);
  }
  return true;
}

}  // namespace doppel::debug
