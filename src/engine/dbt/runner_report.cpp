#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "engine/dbt/block_listing.h"
#include "engine/dbt/runner.h"

/// What a Runner tells of itself.
namespace doppel::engine::dbt {

nlohmann::json Runner::stats() const {
  const CodeCache::Stats& cache = cache_.stats();
  nlohmann::json json = interpreter_->stats();
  json.erase("instructions");
  json["interpreted"] = stats_.interpreted;
  json["blocks_translated"] = cache.blocks;
  json["blocks_failed"] = translator_.failures();
  json["instructions_translated"] = cache.instructions;
  json["code_bytes"] = cache.code_bytes;
  json["links"] = cache.links;
  json["blocks_dropped"] = cache.dropped;
  json["cache_flushes"] = cache.flushes;
  json["read_fills"] = stats_.read_fills;
  json["write_fills"] = stats_.write_fills;
  const CodeCache::Footprint footprint = cache_.footprint();
  json["memory"] = {{"code_bytes", footprint.code},
                    {"code_bytes_limit", footprint.code_limit},
                    {"blocks", footprint.blocks},
                    {"block_bytes", footprint.metadata},
                    {"table_bytes", views_->committed_bytes()}};
  for (std::size_t i = 0; i < kExitReasons; ++i) json["exits"][kExitReasonNames[i]] = stats_.exits[i];
  if (direct_ != nullptr) json["direct"] = direct_->stats();
  if (counting_) {
    const Env& env = views_->env();
    const auto misses = [this](ExitReason reason) { return stats_.exits[static_cast<std::size_t>(reason)]; };
    json["instructions"] = env.counted_instructions + stats_.interpreted_alone;
    json["tlb_lookups"] = env.counted_lookups;
    json["tlb_lookups_failed"] = misses(ExitReason::ReadMiss) + misses(ExitReason::WriteMiss);
  }
  return json;
}

void Runner::set_counting(bool counting) {
  if (counting == counting_) return;
  counting_ = counting;
  cache_.flush();
  for (const bool user : {false, true}) views_->jumps(user).flush_all();
}

std::vector<std::string> Runner::listing(const Block& block, x86::LinearAddress linear) const {
  return list_block(block, cache_.sites_of(block), guest_bytes(cpu_.ports.memory, block), linear, trampolines_);
}

nlohmann::json Runner::describe_code(std::uint64_t linear) {
  nlohmann::json lists = nlohmann::json::array();
  memory::GuestPhysical physical = 0;
  if (!interpreter_->translate(linear, physical)) return lists;
  for (const Block* block : cache_.blocks_in(align_down(physical, memory::kPageSize))) {
    const std::uint64_t offset = physical - block->physical;
    if (offset < block->bytes) lists.push_back(listing(*block, linear - offset));
  }
  return lists;
}

void Runner::name_for_perf(const Block& block, x86::LinearAddress linear) {
  shared_.perf_map->add({block.code, block.code_size},
                        fmt::format("guest {} {:#x} physical {:#x}", mode_name(block.mode), linear, block.physical));
}

/// A bug of ours: there is nothing to go on with.
void Runner::report_host_fault(const Block* block) const {
  const Env& env = views_->env();
  std::string report =
      fmt::format("a bug in doppel: translated code raised exception {} at {:#x}; guest near RIP {:#x}",
                  env.fault_vector, env.fault_pc, cpu_.state.rip);
  if (block == nullptr) {
    report += ", outside of blocks";
  } else {
    const x86::LinearAddress page = block->absolute ? block->linear_page : env.page_base;
    for (const std::string& line : listing(*block, page + block->page_offset())) report += "\n" + line;
  }
  log::error("dbt", "{}", report);
  std::abort();
}

}  // namespace doppel::engine::dbt
