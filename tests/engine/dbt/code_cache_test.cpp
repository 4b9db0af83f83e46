#include "engine/dbt/code_cache.h"

#include <nlohmann/json.hpp>

#include "engine/dbt/twins.h"

/// A code cache that is too small for the guest.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

/// A translator with next to no room.
class TinyTranslator : public Engine {
 public:
  std::string_view name() const override { return "dbt"; }
  std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) override {
    shared_ = std::make_unique<dbt::Shared>(ports.memory);
    interpreter_ = interp::Shared::create(ports);
    constexpr std::size_t kCodeBytes = 128 * 1024;
    return std::make_unique<dbt::Runner>(ports, *shared_, dbt::Runner::allocate(kCodeBytes).value(),
                                         std::make_unique<interp::Runner>(ports, *interpreter_));
  }

 private:
  std::unique_ptr<dbt::Shared> shared_;
  std::unique_ptr<interp::Shared> interpreter_;
};

TEST(CodeCacheThatFillsUp, loses_nothing_but_time) {
  Twins twins(std::make_unique<TinyTranslator>());
  for (const TwinMode mode : {TwinMode::Supervisor64, TwinMode::User64, TwinMode::Protected32}) {
    twins.enter(mode);
    // 100 pages of functions that call each other within their page, run over three times.
    static constexpr std::uint64_t kFunctions = 0x32'0000, kPages = 100;
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const std::uint64_t address = kFunctions + page * 4096;
      twins.place_code(address, [page](Assembler& a) {
        const Label inner = a.newLabel();
        for (unsigned i = 0; i < 20; ++i) {
          const Label skip = a.newLabel();
          a.add(r::eax, static_cast<int>(page * 20 + i));
          a.test(r::eax, 1 << i);
          a.jz(skip);
          a.call(inner);
          a.bind(skip);
        }
        a.ret();
        a.bind(inner);
        a.rol(r::eax, 3);
        a.inc(r::dword_ptr(Twins::kData));
        a.ret();
      });
    }
    twins.place_code(kCodeAddress, [mode](Assembler& a) {
      const r::Gp counter = is_64(mode) ? r::Gp(r::rbx) : r::Gp(r::ebx),
                  target = is_64(mode) ? r::Gp(r::rsi) : r::Gp(r::esi);
      const Label outer = a.newLabel(), loop = a.newLabel();
      a.mov(r::edi, 3);
      a.bind(outer);
      a.mov(target, kFunctions);
      a.mov(counter, kPages);
      a.bind(loop);
      a.call(target);
      a.add(target, 4096);
      a.dec(counter);
      a.jnz(loop);
      a.dec(r::edi);
      a.jnz(outer);
      a.hlt();
    });
    twins.run_and_compare();
  }
  EXPECT_GT(twins.right.vcpu->stats()["cache_flushes"], 3);
}

TEST(CodeCache, finds_a_block_by_its_code) {
  Result<isa::CodeArea> area = isa::CodeArea::create(4 << 20);
  ASSERT_TRUE(area) << area.error().message;
  Result<dbt::CodeCache> made = dbt::CodeCache::create(std::move(*area));
  ASSERT_TRUE(made) << made.error().message;
  dbt::CodeCache& cache = *made;
  cache.add_permanent(std::vector<std::byte>(100));
  EXPECT_EQ(cache.block_at(cache.executable().data() + 50), nullptr) << "of nobody";
  // The second time after a flush, with other sizes.
  for (const std::size_t step : {7U, 301U}) {
    std::vector<const dbt::Block*> blocks;
    for (std::size_t size = 1; size < 4000; size += step) {
      auto block = std::make_unique<dbt::Block>();
      block->physical = size;
      const std::vector<std::byte> code(size);
      blocks.push_back(cache.add(std::move(block), {code, {}, {}}));
      ASSERT_NE(blocks.back(), nullptr);
    }
    for (const dbt::Block* block : blocks) {
      EXPECT_EQ(cache.block_at(block->code), block);
      EXPECT_EQ(cache.block_at(block->code + block->code_size - 1), block);
      const dbt::Block* const behind = cache.block_at(block->code + block->code_size);
      EXPECT_NE(behind, block);
    }
    EXPECT_EQ(cache.block_at(blocks.back()->code + blocks.back()->code_size), nullptr);
    EXPECT_EQ(cache.block_at(cache.executable().data() + 50), nullptr);
    cache.flush();
  }
}

TEST(CodeCache, gives_up_a_place_until_other_code_may_be_there) {
  Result<isa::CodeArea> area = isa::CodeArea::create(1 << 20);
  ASSERT_TRUE(area) << area.error().message;
  Result<dbt::CodeCache> made = dbt::CodeCache::create(std::move(*area));
  ASSERT_TRUE(made) << made.error().message;
  dbt::CodeCache& cache = *made;
  constexpr memory::GuestPhysical kPlace = 0x12'3456, kPage = 0x12'3000;
  EXPECT_FALSE(cache.given_up(kPlace, 7));
  cache.give_up(kPlace, 7);
  EXPECT_TRUE(cache.given_up(kPlace, 7));
  EXPECT_FALSE(cache.given_up(kPlace, 8)) << "in another mode it is other code";
  EXPECT_FALSE(cache.given_up(kPlace + 1, 7));
  cache.drop_page(kPage + 4096);
  EXPECT_TRUE(cache.given_up(kPlace, 7));
  cache.drop_page(kPage);
  EXPECT_FALSE(cache.given_up(kPlace, 7));
  cache.give_up(kPlace, 7);
  cache.flush();
  EXPECT_FALSE(cache.given_up(kPlace, 7));
}

}  // namespace
}  // namespace doppel::engine::test
