#include "fuzz_isa/claims.h"

#include <algorithm>
#include <initializer_list>
#include <span>

#include "isa/op_table.h"

namespace doppel::fuzz_isa {

namespace {

constexpr std::size_t kMostOpenings = 6;

isa::CodeSize code_size(Mode mode) {
  return mode == Mode::Bits64   ? isa::CodeSize::Bits64
         : mode == Mode::Bits32 ? isa::CodeSize::Bits32
                                : isa::CodeSize::Bits16;
}

struct Prefixes {
  std::array<std::uint8_t, 3> bytes;
  std::uint8_t count;
};
constexpr std::array<Prefixes, 10> kPrefixes{{{{}, 0},
                                              {{0x66}, 1},
                                              {{0xF2}, 1},
                                              {{0xF3}, 1},
                                              {{0x66, 0xF2}, 2},
                                              {{0x66, 0xF3}, 2},
                                              {{0xF0}, 1},
                                              {{0x66, 0xF0}, 2},
                                              {{0x67}, 1},
                                              {{0x66, 0x67}, 2}}};

/// Opcodes whose meaning hangs on ModRM.rm, too.
bool depends_on_rm(const Opening& opening) {
  if (opening.vex) return false;
  const std::uint8_t last = opening.opcode[opening.opcodes - 1];
  if (opening.opcodes == 1) return last >= 0xD8 && last <= 0xDF;
  return opening.opcodes == 2 && (last == 0x01 || last == 0xAE || last == 0xC7 || last == 0x1E);
}

}  // namespace

Claims::Claims(const isa::Decoder& decoder) {
  for (const Mode mode : {Mode::Bits64, Mode::Bits32, Mode::Bits16}) {
    enumerate_legacy(decoder, mode);
    enumerate_vex(decoder, mode);
  }
}

void Claims::enumerate_legacy(const isa::Decoder& decoder, Mode mode) {
  const std::initializer_list<std::initializer_list<std::uint8_t>> maps{{}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};
  for (const Prefixes& prefixes : kPrefixes)
    for (const bool rex_w : {false, true})
      for (const auto& escapes : maps)
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
          if (rex_w && mode != Mode::Bits64) continue;
          Opening opening;
          opening.prefix = prefixes.bytes;
          opening.prefixes = prefixes.count;
          opening.rex_w = rex_w;
          for (const std::uint8_t escape : escapes) opening.opcode[opening.opcodes++] = escape;
          opening.opcode[opening.opcodes++] = static_cast<std::uint8_t>(opcode);
          try_modrm(decoder, mode, opening, depends_on_rm(opening));
        }
}

void Claims::enumerate_vex(const isa::Decoder& decoder, Mode mode) {
  constexpr unsigned kNoVvvv = 0x78, kRxb = 0xE0;
  for (unsigned map = 1; map <= 3; ++map)
    for (unsigned w = 0; w < 2; ++w)
      for (unsigned l_pp = 0; l_pp < 8; ++l_pp)
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
          Opening opening;
          opening.vex = true;
          opening.opcode = {static_cast<std::uint8_t>(kRxb | map), static_cast<std::uint8_t>(w << 7 | kNoVvvv | l_pp),
                            static_cast<std::uint8_t>(opcode)};
          opening.opcodes = 3;
          try_modrm(decoder, mode, opening, false);
          // Gathers want a SIB, which 16-bit addresses do not have.
          if (mode != Mode::Bits16) continue;
          opening.prefix[opening.prefixes++] = 0x67;
          try_modrm(decoder, mode, opening, false);
        }
}

bool Claims::try_modrm(const isa::Decoder& decoder, Mode mode, Opening opening, bool all_registers) {
  bool found = false;
  for (unsigned reg = 0; reg < 8; ++reg) {
    const auto attempt = [&](unsigned mod, unsigned rm) {
      opening.modrm = static_cast<std::uint8_t>(mod << 6 | reg << 3 | rm);
      const Tried tried = add(decoder, mode, opening);
      found |= tried != Tried::Nothing;
      return tried;
    };
    // The bytes that follow make a SIB that names no register of another operand.
    if (attempt(0, 4) == Tried::Found) return true;
    for (unsigned rm = 0; rm < 8; ++rm)
      // Of the four that may be AH to BH, one.
      if (all_registers || rm == 1 || (rm == 4 && !opening.vex)) attempt(3, rm);
  }
  return found;
}

Claims::Tried Claims::add(const isa::Decoder& decoder, Mode mode, const Opening& opening) {
  std::array<std::uint8_t, 15> bytes{};
  std::size_t count = 0;
  for (unsigned i = 0; i < opening.prefixes; ++i) bytes[count++] = opening.prefix[i];
  if (opening.vex) bytes[count++] = 0xC4;
  if (opening.rex_w) bytes[count++] = 0x48;
  for (unsigned i = 0; i < opening.opcodes; ++i) bytes[count++] = opening.opcode[i];
  bytes[count++] = opening.modrm;
  bytes[count++] = 0x33;  // SIB: [rbx + rsi]
  isa::Insn insn;
  isa::Encoding encoding;
  const auto status = decoder.decode(std::as_bytes(std::span(bytes)), code_size(mode), true, insn, &encoding);
  if (status != isa::DecodeStatus::Ok || isa::op_class(insn) == isa::OpClass::Undefined) return Tried::Nothing;
  auto& claims = claims_[static_cast<std::size_t>(mode)];
  const Form form = form_of(insn, encoding, mode);
  const auto [at, fresh] = index_[static_cast<std::size_t>(mode)].try_emplace(form, claims.size());
  if (fresh) claims.push_back({form, {}});
  auto& openings = claims[at->second].openings;
  if (openings.size() < kMostOpenings) {
    openings.push_back(opening);
    openings.back().has_modrm = encoding.has_modrm;
  }
  return encoding.has_modrm ? Tried::FoundWithModrm : Tried::Found;
}

}  // namespace doppel::fuzz_isa
