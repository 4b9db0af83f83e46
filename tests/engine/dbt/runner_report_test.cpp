#include <gmock/gmock.h>
#include <sys/mman.h>

#include <nlohmann/json.hpp>

#include "engine/dbt/twins.h"

/// What a translator tells of itself.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr int kRounds = 1000;

/// A loop that looks up two pages in each round.
void place_loop(Twins& twins) {
  twins.enter(TwinMode::Supervisor64);
  twins.state.gpr[x86::kRbx] = Twins::kData;
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::ecx, kRounds);
    a.bind(loop);
    a.mov(r::rax, r::qword_ptr(r::rbx, r::rsi));
    a.mov(r::qword_ptr(r::rsp, -8), r::rax);
    a.dec(r::ecx);
    a.jnz(loop);
    a.hlt();
  });
}

TEST(RunnerReport, counts_instructions_and_look_ups_when_asked) {
  Twins twins;
  place_loop(twins);
  twins.right.vcpu->set_counting(true);
  twins.run_and_compare();
  const nlohmann::json stats = twins.right.vcpu->stats();
  const auto about = [](std::uint64_t number) { return testing::AllOf(testing::Ge(number), testing::Le(number + 40)); };
  EXPECT_THAT(stats["instructions"].get<std::uint64_t>(), about(4 * kRounds + 2));
  EXPECT_THAT(stats["tlb_lookups"].get<std::uint64_t>(), about(2 * kRounds));
  EXPECT_LT(stats["tlb_lookups_failed"].get<std::uint64_t>(), 10U);
  twins.right.vcpu->set_counting(false);
  EXPECT_FALSE(twins.right.vcpu->stats().contains("instructions"));
  place_loop(twins);
  twins.run_and_compare();
}

TEST(RunnerReport, lists_the_code_of_the_guest_and_of_the_host) {
  Twins twins;
  place_loop(twins);
  twins.run_and_compare();
  const nlohmann::json lists = twins.right.vcpu->describe_code(kCodeAddress);
  ASSERT_FALSE(lists.empty());
  std::string text;
  for (const auto& line : lists[0]) text += line.get<std::string>() + "\n";
  EXPECT_THAT(text, HasSubstr("supervisor 64-bit code at 0x"));
  EXPECT_THAT(text, HasSubstr("mov ecx, 0x3E8"));
  EXPECT_THAT(text, HasSubstr("read_miss"));
  EXPECT_THAT(text, HasSubstr("its site"));
  EXPECT_THAT(text, testing::Not(HasSubstr("(bad)")));
  EXPECT_TRUE(twins.right.vcpu->describe_code(Twins::kData).empty());
}

/// A page of RAM that cannot be read, as if a table led to nowhere.
TEST(RunnerReportDeathTest, a_fault_that_is_not_the_guests_is_a_report) {
  Twins twins;
  place_loop(twins);
  EXPECT_DEATH(
      {
        ::mprotect(twins.right.memory->page(Twins::kData), memory::kPageSize, PROT_NONE);
        twins.right.state = twins.state;
        twins.right.run();
      },
      ContainsRegex("a bug in doppel: translated code raised exception 14 at 0x[0-9a-f]+; guest near RIP 0x"));
}

}  // namespace
}  // namespace doppel::engine::test
