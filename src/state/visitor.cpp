#include "state/visitor.h"

namespace doppel::state {

// By value for the visitors that keep it.
void Visitor::on_loaded(std::function<void()> /*action*/) {}  // NOLINT(performance-unnecessary-value-param)

void Visitor::require(bool /*condition*/, std::string_view /*what*/) {}

}  // namespace doppel::state
