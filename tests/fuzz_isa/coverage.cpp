#include "fuzz_isa/coverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "fuzz_isa/generator.h"

namespace doppel::fuzz_isa {

namespace {

constexpr std::size_t kRanThrough = 32;
constexpr std::array kModeNames{"64-bit", "32-bit", "16-bit"};

/// After these RIP is behind the instruction.
bool is_trap(const Outcome& outcome) {
  using namespace x86::vector;
  return outcome.vector == kDb || outcome.vector == kBp || outcome.vector == kOf;
}

/// Where in the case it ended: the index of the instruction at RIP; their number if all were behind, or -1.
int last_of(const Case& made, const Outcome& outcome) {
  const auto count = static_cast<int>(made.instructions.size());
  if (outcome.kind == Outcome::Kind::End) return count;
  const std::uint64_t end = outcome.end.rip + segment_base(outcome.end.cs);
  std::uint64_t at = made.start.linear_rip();
  for (int i = 0; i < count; ++i) {
    if (at == end) return i;
    at += made.instructions[static_cast<std::size_t>(i)].length;
  }
  return at == end || end == kWayOut ? count : -1;
}

const nlohmann::json& at(const nlohmann::json& json, const char* name) {
  return json.at(name);
}

}  // namespace

void Coverage::Count::add(const Count& other) {
  completed += other.completed;
  faulted += other.faulted;
  memory += other.memory;
  misaligned += other.misaligned;
  two_pages += other.two_pages;
  segment += other.segment;
  address_size += other.address_size;
  redundant_prefixes += other.redundant_prefixes;
}

void Coverage::count(const Case& made, const Outcome& outcome, unsigned engines) {
  ++cases_;
  engine_cases_ += engines;
  ++ends_[outcome.kind == Outcome::Kind::End ? kRanThrough : std::min<std::size_t>(outcome.vector, kRanThrough - 1)];
  const int last = last_of(made, outcome);
  const bool faulted = outcome.kind == Outcome::Kind::Exception && !is_trap(outcome);
  std::uint64_t at = made.start.linear_rip(), certain_from = at;
  for (int i = 0; i < static_cast<int>(made.instructions.size()); ++i) {
    const Instruction& instruction = made.instructions[static_cast<std::size_t>(i)];
    const std::uint64_t start = at;
    at += instruction.length;
    if (i == last && !faulted) break;
    if (start >= certain_from) {
      const Reached& reached = instruction.reached;
      of(reached.form)
          .add({i != last, i == last, reached.memory, reached.misaligned, reached.two_pages, reached.segment,
                reached.address_size, reached.redundant_prefixes});
      ++instructions_;
      engine_instructions_ += engines;
    }
    if (i == last) break;
    if (!instruction.branches) continue;
    // One that has led out of the case, or may have led to behind others.
    if (last < 0 || instruction.branch_size == 0) break;
    certain_from = std::max(certain_from, instruction.branch_target);
  }
}

bool Coverage::load(const std::string& path) {
  std::ifstream file(path);
  if (!file) return false;
  const nlohmann::json json = nlohmann::json::parse(file);
  cases_ += at(json, "cases").get<std::uint64_t>();
  instructions_ += at(json, "instructions").get<std::uint64_t>();
  engine_cases_ += at(json, "cases_on_engines").get<std::uint64_t>();
  engine_instructions_ += at(json, "instructions_on_engines").get<std::uint64_t>();
  const auto ends = at(json, "ends").get<std::vector<std::uint64_t>>();
  for (std::size_t i = 0; i < std::min(ends.size(), ends_.size()); ++i) ends_[i] += ends[i];
  for (const auto& [key, value] : at(json, "forms").items()) {
    const auto n = at(value, "counts").get<std::array<std::uint64_t, 8>>();
    of(Form{std::stoull(key, nullptr, 16)}).add({n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]});
  }
  return true;
}

void Coverage::save(const std::string& path) const {
  nlohmann::json json{{"cases", cases_},
                      {"instructions", instructions_},
                      {"cases_on_engines", engine_cases_},
                      {"instructions_on_engines", engine_instructions_},
                      {"ends", ends_},
                      {"counts_are",
                       {"completed", "faulted", "memory", "misaligned", "two_pages", "segment_override", "address_size",
                        "redundant_prefixes"}}};
  for (const auto& [key, n] : reached_)
    json["forms"][fmt::format("{:016x}", key)] = {{"form", to_string(Form{key})},
                                                  {"counts",
                                                   {n.completed, n.faulted, n.memory, n.misaligned, n.two_pages,
                                                    n.segment, n.address_size, n.redundant_prefixes}}};
  const std::string fresh = path + ".new";
  std::ofstream(fresh) << json.dump(1) << "\n";
  std::rename(fresh.c_str(), path.c_str());
}

std::string Coverage::table(const Claims& claims) const {
  struct Cell {
    std::size_t claimed = 0, reached = 0;
    std::uint64_t times = 0;
  };
  std::map<std::string, std::array<Cell, kModes>> rows;
  std::array<Cell, kModes> total;
  std::map<std::string, std::set<std::string>> without_judge;
  std::string missing, only_faults;
  std::size_t faulting = 0;
  for (std::size_t mode = 0; mode < kModes; ++mode) {
    for (const Claims::Claim& claim : claims.of(static_cast<Mode>(mode))) {
      const auto mnemonic = static_cast<ZydisMnemonic>(claim.form.mnemonic());
      const char* name = ZydisMnemonicGetString(mnemonic);
      if (const char* why = Generator::no_judge(mnemonic)) {
        without_judge[why].insert(name);
        continue;
      }
      const auto found = reached_.find(claim.form.key);
      const Count none, &count = found == reached_.end() ? none : found->second;
      for (Cell* cell : {&rows[name][mode], &total[mode]}) {
        ++cell->claimed;
        cell->reached += count.completed + count.faulted != 0 ? 1 : 0;
        cell->times += count.completed + count.faulted;
      }
      if (count.completed + count.faulted == 0) missing += "  " + to_string(claim.form) + "\n";
      if (count.completed == 0 && count.faulted != 0) {
        ++faulting;
        only_faults += std::string(only_faults.empty() ? "" : "; ") + to_string(claim.form);
      }
    }
  }
  const auto line = [](const std::string& name, const std::array<Cell, kModes>& cells) {
    std::string text = fmt::format("{:<18}", name);
    for (const Cell& cell : cells)
      text += cell.claimed == 0
                  ? fmt::format(" | {:>8} {:>12}", "", "")
                  : fmt::format(" | {:>8} {:>12}", fmt::format("{}/{}", cell.reached, cell.claimed), cell.times);
    return text + "\n";
  };
  std::string text = fmt::format("{:<18}", "forms, times");
  for (const char* name : kModeNames) text += fmt::format(" | {:>21}", name);
  text += "\n";
  for (const auto& [name, cells] : rows) text += line(name, cells);
  text += line("all", total);
  Count sum;
  for (const auto& [key, count] : reached_) sum.add(count);
  text += fmt::format(
      "{} completed, {} faulted; {} in memory, {} of them misaligned, {} across pages; {} with another segment, {} "
      "with "
      "another address size, {} with prefixes to no effect\n",
      sum.completed, sum.faulted, sum.memory, sum.misaligned, sum.two_pages, sum.segment, sum.address_size,
      sum.redundant_prefixes);
  for (const auto& [why, names] : without_judge) {
    text += fmt::format("not judged, {}:", why);
    for (const std::string& name : names) text += " " + name;
    text += "\n";
  }
  text += fmt::format("{} forms only ever faulted: {}\n", faulting, only_faults);
  return text + "claimed but not reached:" + (missing.empty() ? " none\n" : "\n" + missing);
}

std::string Coverage::summary() const {
  std::string text = fmt::format(
      "{} cases of {} executed instructions, in {} forms; {} cases and {} instructions on "
      "engines; ran through {}, ended by",
      cases_, instructions_, reached_.size(), engine_cases_, engine_instructions_, ends_[kRanThrough]);
  for (std::size_t vector = 0; vector < kRanThrough; ++vector)
    if (ends_[vector] != 0) text += fmt::format(" {}:{}", vector, ends_[vector]);
  return text + "\n";
}

}  // namespace doppel::fuzz_isa
