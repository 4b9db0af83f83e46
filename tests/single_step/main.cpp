// Runs hardware-captured vectors of 8086 to 80386 class processors, in real mode, on an engine.
//
//   single_step [--engine interp|dbt] [--show N] [DIRECTORY]
//
// DIRECTORY, or $DOPPEL_SINGLE_STEP_TESTS, holds one set's files: *.MOO, *.json, or these compressed by gzip. A line
// per file tells how many of its vectors passed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "single_step/real_mode_processor.h"
#include "single_step/vectors.h"

namespace doppel::single_step {
namespace {

// What ctest takes for "skipped".
constexpr int kSkipped = 77;

struct Options {
  std::string engine = "interp", directory;
  unsigned shown = 0;
};

/// What the processors that vectors come from have in common with ours, or not.
struct Source {
  const char* id;
  std::uint32_t address_mask;
  bool halts;  ///< vectors end behind a HLT
};
constexpr std::array kSources{
    Source{"8088", 0xF'FFFF, false}, Source{"8086", 0xF'FFFF, false}, Source{"V20", 0xF'FFFF, false},
    Source{"V30", 0xF'FFFF, false},  Source{"C286", 0xFF'FFFF, true}, Source{"386E", 0xFF'FFFF, true},
};

/// By the file's own word, or where it has none by the name of the directory that it comes from.
const Source* source_of(const std::string& cpu, const std::string& path) {
  for (const Source& source : kSources)
    if (cpu == source.id) return &source;
  for (const Source& source : kSources)
    if (cpu.empty() && path.find(source.id) != std::string::npos) return &source;
  return cpu.empty() && path.find("286") != std::string::npos ? &kSources[4] : nullptr;
}

/// Whether an interrupt's frame has SS where CS belongs: three vectors do, which have been captured wrongly.
bool pushes_ss(const Vector& vector) {
  if (!vector.pushed_flags) return false;
  const std::uint32_t ss = vector.initial.registers.value[kSs];
  const auto holds = [&vector](std::uint32_t address, std::uint32_t byte) {
    const auto& ram = vector.final.ram;
    return std::find(ram.begin(), ram.end(), std::pair{address, static_cast<std::uint8_t>(byte)}) != ram.end();
  };
  return holds(*vector.pushed_flags - 2, ss & 0xFF) && holds(*vector.pushed_flags - 1, ss >> 8 & 0xFF);
}

constexpr std::uint8_t kLock = 0xF0;

/// Where the opcode is.
std::vector<std::uint8_t>::const_iterator prefix_end(const Vector& vector) {
  constexpr std::array<std::uint8_t, 7> kPrefixes{0x26, 0x2E, 0x36, 0x3E, kLock, 0xF2, 0xF3};
  return std::find_if(vector.bytes.begin(), vector.bytes.end(), [kPrefixes](std::uint8_t byte) {
    return std::find(kPrefixes.begin(), kPrefixes.end(), byte) == kPrefixes.end();
  });
}

bool is_between(std::uint8_t value, std::uint8_t first, std::uint8_t last) {
  return value >= first && value <= last;
}

/// Why an 80286's vector is not what later processors do; null if it should be.
const char* explanation_of_80286(const Vector& vector, const RealModeProcessor& processor) {
  constexpr std::size_t kMostBytes = 10;
  constexpr std::uint8_t kHlt = 0xF4;
  using x86::vector::kDe, x86::vector::kGp;
  const std::size_t length = vector.bytes.size() - (vector.bytes.back() == kHlt ? 1 : 0);
  const auto opcode = prefix_end(vector);
  if (length > kMostBytes && vector.exception) return "longer than 10 bytes";
  if (processor.took(x86::vector::kUd) && std::find(vector.bytes.begin(), opcode, kLock) != opcode)
    return "LOCK of what later has none";
  const bool segment = opcode != vector.bytes.end() && (*opcode == 0x8C || *opcode == 0x8E);
  if (segment && (opcode[1] >> 3 & 7) >= 4) return "FS and GS";
  if (opcode != vector.bytes.end() && is_between(*opcode, 0xD8, 0xDF)) return "no coprocessor";
  const bool byte_division = opcode != vector.bytes.end() && *opcode == 0xF6;
  if (byte_division && !vector.exception && processor.took(kDe)) return "IDIV whose quotient overflows to 80H";
  if (vector.exception != kGp) return pushes_ss(vector) ? "SS pushed for CS" : nullptr;
  if (processor.took(x86::vector::kSs)) return "beyond the stack segment: 13, later 12";
  return processor.took(kGp) ? "registers changed before a fault" : nullptr;
}

/// The same, of the 8086 and 8088.
const char* explanation_of_8086(const Vector& vector, const RealModeProcessor& processor) {
  const auto opcode = prefix_end(vector);
  if (opcode == vector.bytes.end()) return nullptr;
  const unsigned reg = opcode + 1 == vector.bytes.end() ? 0 : opcode[1] >> 3 & 7;
  const bool register_operand = opcode + 1 != vector.bytes.end() && opcode[1] >= 0xC0;
  const auto has_prefix = [&](std::uint8_t first, std::uint8_t last) {
    return std::any_of(vector.bytes.begin(), opcode, [=](std::uint8_t byte) { return is_between(byte, first, last); });
  };
  if (processor.took(x86::vector::kUd) && has_prefix(kLock, kLock)) return "LOCK of what later has none";
  const std::uint32_t ax = vector.initial.registers.value[kEax], flags = vector.initial.registers.value[kEflags];
  switch (*opcode) {
    case 0x27:
    case 0x2F:
      if ((flags & x86::rflags::kAf) != 0 && is_between(ax & 0xFF, 0x9A, 0x9F)) return "DAA and DAS of 9AH to 9FH, AF";
      if ((flags & x86::rflags::kAf) != 0 && *opcode == 0x2F && (ax & 0xFF) < 6) return "DAS that borrows from 0 to 5";
      break;
    case 0x37:
    case 0x3F:
      return "AAA and AAS carry from AL to AH";
    case 0x54:
      return "PUSH SP";
    case 0xC0:
    case 0xC1:
    case 0xC8:
    case 0xC9:
      return "opcodes that later have become others";
    case 0x8C:
    case 0x8E:
      if (reg >= 4) return "segment registers 4 to 7";
      break;
    case 0x8F:
    case 0xC6:
    case 0xC7:
      if (reg != 0) return "forms of groups that later do not exist";
      break;
    case 0xD2:
    case 0xD3:
      if (reg == 6) return "forms of groups that later do not exist";
      if ((vector.initial.registers.value[kEcx] & 0xFF) > 31) return "shifts by more than 31";
      break;
    case 0xD0:
    case 0xD1:
      if (reg == 6) return "forms of groups that later do not exist";
      break;
    case 0x9C:
    case 0xCC:
    case 0xCD:
    case 0xCE:
      return "bits 12 to 15 of pushed FLAGS";
    case 0xD4:
    case 0xF6:
    case 0xF7:
      if (processor.took(x86::vector::kDe)) return "division errors: RIP of the next instruction; and of 80H";
      if (*opcode == 0xF6 && reg == 7 && (processor.value(kEax) & 0xFF) == 0x80)
        return "division errors: RIP of the next instruction; and of 80H";
      if (*opcode != 0xD4 && reg == 7 && has_prefix(0xF2, 0xF3)) return "REP IDIV";
      break;
    case 0xFE:
    case 0xFF:
      if (reg == 7 || (register_operand && (reg == 3 || reg == 5))) return "forms of groups that later do not exist";
      if (reg == 6 && register_operand) return "PUSH SP";
      break;
    default:
      if (is_between(*opcode, 0x60, 0x6F)) return "opcodes that later have become others";
      if (is_between(*opcode, 0xD8, 0xDF)) return "no coprocessor";
  }
  const bool beyond = processor.took(x86::vector::kGp) || processor.took(x86::vector::kSs) || processor.has_shut_down();
  return beyond ? "offsets beyond FFFFH wrap, later 13 and 12" : nullptr;
}

const char* explanation(const Source& source, const Vector& vector, const RealModeProcessor& processor) {
  const std::string_view id = source.id;
  if (id == "C286") return explanation_of_80286(vector, processor);
  return id == "8086" || id == "8088" ? explanation_of_8086(vector, processor) : nullptr;
}

bool is_vector_file(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name.ends_with(".moo") || (name.ends_with(".json") && name != "metadata.json");
}

std::set<std::string> revoked(const std::filesystem::path& directory) {
  std::set<std::string> hashes;
  for (const auto& place : {directory, directory.parent_path()}) {
    std::ifstream file(place / "revocation_list.txt");
    for (std::string line; std::getline(file, line);) hashes.insert(line);
  }
  return hashes;
}

int run(const Options& options) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(options.directory))
    if (is_vector_file(entry.path())) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  const std::set<std::string> withdrawn = revoked(options.directory);
  std::uint64_t passed = 0, explained = 0, all = 0;
  std::map<std::string, std::uint64_t> reasons;
  for (const auto& path : files) {
    const Result<VectorFile> file = read_vectors(path.string());
    if (!file) throw std::runtime_error(file.error().message);
    const Source* source = source_of(file->cpu, path.string());
    if (source == nullptr) throw std::runtime_error(path.string() + ": of which processor is it?");
    RealModeProcessor processor(
        options.engine == "dbt" ? engine::make_translator().value() : engine::make_interpreter(), source->address_mask);
    std::uint64_t good = 0, known = 0, count = 0;
    unsigned shown = 0;
    for (const Vector& vector : file->vectors) {
      if (withdrawn.contains(vector.hash)) continue;
      ++count;
      const std::string found = processor.differences(vector, source->halts);
      good += found.empty() ? 1 : 0;
      if (found.empty()) continue;
      const char* why = explanation(*source, vector, processor);
      known += why != nullptr ? 1 : 0;
      if (why != nullptr) ++reasons[why];
      if (why != nullptr || shown++ >= options.shown) continue;
      fmt::print("{} {}: {} ({:02x})\n{}", path.filename().string(), vector.index, vector.name,
                 fmt::join(vector.bytes, " "), found);
    }
    fmt::print("{:<16} {:>6} of {:>6}, {:>5} explained{}\n", path.filename().string(), good, count, known,
               good + known == count ? "" : "  *");
    passed += good;
    explained += known;
    all += count;
  }
  for (const auto& [reason, times] : reasons) fmt::print("explained, {}: {}\n", reason, times);
  fmt::print("{} of {} vectors passed, {} others are explained, in {} files\n", passed, all, explained, files.size());
  return passed + explained == all ? 0 : 1;
}

}  // namespace
}  // namespace doppel::single_step

int main(int argc, char** argv) try {
  doppel::single_step::Options options;
  if (const char* directory = std::getenv("DOPPEL_SINGLE_STEP_TESTS")) options.directory = directory;
  CLI::App app{"Runs hardware-captured vectors of single instructions on an engine"};
  app.add_option("directory", options.directory, "where a set's files are");
  app.add_option("--engine", options.engine, "interp or dbt");
  app.add_option("--show", options.shown, "how many of a file's differences to print");
  CLI11_PARSE(app, argc, argv);
  if (options.directory.empty()) {
    fmt::print("skipped: DOPPEL_SINGLE_STEP_TESTS names no directory of vectors (github.com/SingleStepTests)\n");
    return doppel::single_step::kSkipped;
  }
  return doppel::single_step::run(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
