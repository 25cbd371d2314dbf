// Okabe and Ito's colours, the same as in the pictures that the server draws.

export const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#0072b2", "#cc79a7"];

/** The colour of a class by its number. */
export const colourOf = (index) => PALETTE[index % PALETTE.length];
