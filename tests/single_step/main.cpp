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
#include <set>
#include <string>
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
  std::uint64_t passed = 0, all = 0;
  for (const auto& path : files) {
    const Result<VectorFile> file = read_vectors(path.string());
    if (!file) throw std::runtime_error(file.error().message);
    const Source* source = source_of(file->cpu, path.string());
    if (source == nullptr) throw std::runtime_error(path.string() + ": of which processor is it?");
    RealModeProcessor processor(
        options.engine == "dbt" ? engine::make_translator().value() : engine::make_interpreter(), source->address_mask);
    std::uint64_t good = 0, count = 0;
    unsigned shown = 0;
    for (const Vector& vector : file->vectors) {
      if (withdrawn.contains(vector.hash)) continue;
      ++count;
      const std::string found = processor.differences(vector, source->halts);
      good += found.empty() ? 1 : 0;
      if (found.empty() || shown++ >= options.shown) continue;
      fmt::print("{} {}: {} ({:02x})\n{}", path.filename().string(), vector.index, vector.name,
                 fmt::join(vector.bytes, " "), found);
    }
    fmt::print("{:<16} {:>6} of {:>6}{}\n", path.filename().string(), good, count, good == count ? "" : "  *");
    passed += good;
    all += count;
  }
  fmt::print("{} of {} vectors passed, in {} files\n", passed, all, files.size());
  return passed == all ? 0 : 1;
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
