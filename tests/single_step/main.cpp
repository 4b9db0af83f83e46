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

/// Why an 80286's vector is not what later processors do; null if it should be.
const char* explanation(const Vector& vector, const RealModeProcessor& processor) {
  constexpr std::size_t kMostBytes = 10;
  constexpr std::uint8_t kLock = 0xF0, kHlt = 0xF4;
  using x86::vector::kDe, x86::vector::kGp;
  const std::size_t length = vector.bytes.size() - (vector.bytes.back() == kHlt ? 1 : 0);
  const auto prefix_end = std::find_if(vector.bytes.begin(), vector.bytes.end(), [](std::uint8_t byte) {
    constexpr std::array<std::uint8_t, 7> kPrefixes{0x26, 0x2E, 0x36, 0x3E, kLock, 0xF2, 0xF3};
    return std::find(kPrefixes.begin(), kPrefixes.end(), byte) == kPrefixes.end();
  });
  if (length > kMostBytes && vector.exception) return "longer than 10 bytes";
  if (processor.took(x86::vector::kUd) && std::find(vector.bytes.begin(), prefix_end, kLock) != prefix_end)
    return "LOCK of what later has none";
  const bool segment = prefix_end != vector.bytes.end() && (*prefix_end == 0x8C || *prefix_end == 0x8E);
  if (segment && (prefix_end[1] >> 3 & 7) >= 4) return "FS and GS";
  if (prefix_end != vector.bytes.end() && *prefix_end >= 0xD8 && *prefix_end <= 0xDF) return "no coprocessor";
  const bool byte_division = prefix_end != vector.bytes.end() && *prefix_end == 0xF6;
  if (byte_division && !vector.exception && processor.took(kDe)) return "IDIV whose quotient overflows to 80H";
  if (vector.exception != kGp) return pushes_ss(vector) ? "SS pushed for CS" : nullptr;
  if (processor.took(x86::vector::kSs)) return "beyond the stack segment: 13, later 12";
  return processor.took(kGp) ? "registers changed before a fault" : nullptr;
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
      const char* why = source->id == std::string_view("C286") ? explanation(vector, processor) : nullptr;
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
