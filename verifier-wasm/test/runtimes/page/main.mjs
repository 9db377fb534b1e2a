const said = document.querySelector("#verdicts");
try {
  // Not a static import, whose failure nobody could catch.
  const { verdicts } = await import("../verdicts.mjs");
  said.textContent = JSON.stringify(await verdicts());
} catch (error) {
  said.textContent = `${error.name}: ${error.message}`;
}
