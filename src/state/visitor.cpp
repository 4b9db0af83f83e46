#include "state/visitor.h"

namespace doppel::state {

void Visitor::on_loaded(std::function<void()> /*action*/) {}

void Visitor::require(bool /*condition*/, std::string_view /*what*/) {}

}  // namespace doppel::state
